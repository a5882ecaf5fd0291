"""Values of the telecom knowledge base: radio, QoS, timers, specifications, security, identifiers."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from understudy.data.embedded.telecom.knowledge import Fact, load_facts, load_relations

TOPICS = {"five_qi", "nr_bands", "timers", "specifications", "security", "radio", "identifiers"}
# 5QI, resource type, priority, delay in ms, exponent of the error rate: typed a second time, by resource type.
GBR_FLOWS = "1/20/100/2 2/40/150/3 3/30/50/3 4/50/300/6 65/7/75/2 66/20/100/2 67/15/100/3 71/56/150/6 72/56/300/4"
GBR_LATE_FLOWS = "73/56/300/8 74/56/500/8 76/56/500/4"
FREE_FLOWS = "5/10/100/6 6/60/300/6 7/70/100/3 8/80/300/6 9/90/300/6 69/5/60/6 70/55/200/6 79/65/50/2 80/68/10/6"
CRITICAL_FLOWS = "82/19/10/4 83/22/10/4 84/24/30/5 85/21/5/5 86/18/5/4 87/25/5/3 88/25/10/3 89/25/15/4 90/25/20/4"
# NR-ARFCN of the band edges (downlink), TS 38.104 table 5.4.2.3-1: an independent notation of the frequencies.
DOWNLINK_ARFCN = {
    "n1": (422000, 434000),
    "n3": (361000, 376000),
    "n7": (524000, 538000),
    "n8": (185000, 192000),
    "n20": (158200, 164200),
    "n28": (151600, 160600),
    "n66": (422000, 440000),
    "n71": (123400, 130400),
    "n74": (295000, 303600),
    "n100": (183880, 185000),
}
TDD_ARFCN = {
    "n34": (402000, 405000),
    "n38": (514000, 524000),
    "n40": (460000, 480000),
    "n77": (620000, 680000),
    "n78": (620000, 653333),
    "n79": (693334, 733333),
    "n257": (2054166, 2104165),
    "n258": (2016667, 2070832),
    "n260": (2229166, 2279165),
    "n261": (2070833, 2084999),
}


def _facts() -> list[Fact]:
    return [fact for fact in load_facts() if fact.topic in TOPICS]


def _answers(relation: str) -> dict[str, str]:
    return {fact.subject: fact.answer for fact in _facts() if fact.relation == relation}


def _edges(text: str) -> tuple[float, float]:
    low, high = text.removesuffix(" MHz").split("-")
    return float(low), float(high)


def _first_number(text: str) -> float:
    found = re.search(r"\d+(\.\d+)?", text)
    assert found is not None, text
    return float(found.group())


def _megahertz(arfcn: int) -> float:
    """Frequency of an NR-ARFCN, TS 38.104 clause 5.4.2.1."""
    if arfcn < 600_000:
        return arfcn * 0.005
    if arfcn < 2_016_667:
        return 3000 + (arfcn - 600_000) * 0.015
    return 24250.08 + (arfcn - 2_016_667) * 0.06


def test_every_relation_is_well_formed() -> None:
    relations = {name: relation for name, relation in load_relations().items() if relation.topic in TOPICS}
    by_relation: dict[str, list[Fact]] = {}
    for fact in _facts():
        by_relation.setdefault(fact.relation, []).append(fact)
    assert set(by_relation) == set(relations)
    assert len(_facts()) >= 260
    for name, facts in by_relation.items():
        assert len(facts) >= 4, name
        assert max(Counter(fact.subject for fact in facts).values()) == 1, name
        assert relations[name].few_classes == (len({fact.answer for fact in facts}) < 6), name
        assert len(set(relations[name].questions)) == 9, name


def test_answers_are_short_and_sourced() -> None:
    for fact in _facts():
        assert 1 <= len(fact.answer.split()) <= 8, fact
        assert fact.spec, fact
        assert fact.answer not in fact.aliases, fact
        assert len(set(fact.answers)) == len(fact.answers), fact
    assert max(Counter(fact.id for fact in load_facts()).values()) == 1


@pytest.mark.parametrize(
    ("kind", "table"),
    [("GBR", f"{GBR_FLOWS} {GBR_LATE_FLOWS}"), ("non-GBR", FREE_FLOWS), ("delay-critical GBR", CRITICAL_FLOWS)],
)
def test_five_qi_table(kind: str, table: str) -> None:
    expected = {f"5QI {row.split('/')[0]}": row.split("/")[1:] for row in table.split()}
    kinds = _answers("five_qi_resource_type")
    assert {subject for subject, answer in kinds.items() if answer == kind} == set(expected)
    for subject, (priority, delay, exponent) in expected.items():
        assert _answers("five_qi_priority")[subject] == priority
        assert _answers("five_qi_delay_budget")[subject] == f"{delay} ms"
        assert _answers("five_qi_error_rate")[subject] == f"10^-{exponent}"


def test_burst_volume_belongs_to_delay_critical_flows_alone() -> None:
    kinds = _answers("five_qi_resource_type")
    critical = {subject for subject, kind in kinds.items() if kind == "delay-critical GBR"}
    assert set(_answers("five_qi_burst_volume")) == critical
    assert set(_answers("five_qi_of_service").values()) <= set(kinds)


def test_error_rate_aliases_are_the_same_number() -> None:
    for fact in _facts():
        if fact.relation == "five_qi_error_rate":
            exponent = int(fact.answer.removeprefix("10^-"))
            assert [float(alias) for alias in fact.aliases] == pytest.approx([10.0**-exponent] * 2)


def test_band_ranges_fit_the_duplex_mode() -> None:
    bands = {mode: set() for mode in ("FDD", "TDD", "SDL", "SUL")}
    for band, mode in _answers("band_duplex_mode").items():
        bands[mode].add(band)
    assert set(_answers("band_uplink_range")) == bands["FDD"] | bands["SUL"]
    assert set(_answers("band_downlink_range")) == bands["FDD"] | bands["SDL"]
    assert set(_answers("band_tdd_range")) == bands["TDD"]


def test_band_ranges_are_ordered_and_inside_their_frequency_range() -> None:
    limits = {"FR1": (410, 7125), "FR2": (24250, 71000)}
    for relation in ("band_uplink_range", "band_downlink_range", "band_tdd_range"):
        for band, text in _answers(relation).items():
            low, high = _edges(text)
            floor, ceiling = limits[_answers("band_frequency_range")[band]]
            assert floor <= low < high <= ceiling, band


def test_duplex_spacing_is_the_distance_of_the_ranges() -> None:
    for band, spacing in _answers("band_duplex_spacing").items():
        uplink = _edges(_answers("band_uplink_range")[band])
        downlink = _edges(_answers("band_downlink_range")[band])
        assert abs(downlink[0] - uplink[0]) == pytest.approx(_first_number(spacing)), band
        assert downlink[0] >= uplink[1] or uplink[0] >= downlink[1], band


@pytest.mark.parametrize(
    ("relation", "table"), [("band_downlink_range", DOWNLINK_ARFCN), ("band_tdd_range", TDD_ARFCN)]
)
def test_band_edges_against_channel_numbers(relation: str, table: dict[str, tuple[int, int]]) -> None:
    for band, numbers in table.items():
        edges = _edges(_answers(relation)[band])
        # A band edge off the global raster is rounded inwards, by at most one raster step and the FR2 offset.
        tolerance = 0.15 if edges[0] > 24000 else 0.0151
        assert [_megahertz(number) for number in numbers] == pytest.approx(edges, abs=tolerance), band


def test_supplementary_uplink_bands_repeat_the_uplink() -> None:
    uplinks = {**_answers("band_tdd_range"), **_answers("band_uplink_range")}
    for band, supplementary in _answers("band_supplementary_uplink").items():
        assert _answers("band_duplex_mode")[supplementary] == "SUL"
        assert uplinks[supplementary] == uplinks[band]


def test_timers_of_messages_are_inverse() -> None:
    messages = _answers("timer_start_message")
    for message, timer in _answers("timer_of_message").items():
        assert messages[timer] == message
    assert set(messages) <= set(_answers("timer_owner"))
    assert set(messages) <= set(_answers("timer_default_value"))


def test_timer_values_of_the_two_generations() -> None:
    """Mobility timers T34xx of EPS came back as T35xx of 5GS with the same value, except for the service request."""
    values = _answers("timer_default_value")
    for pair in ("02", "10", "11", "12", "16", "21", "22", "40", "50", "60", "70"):
        assert values[f"T34{pair}"] == values[f"T35{pair}"], pair
    assert (values["T3417"], values["T3517"]) == ("5 s", "15 s")


def test_timer_owners_follow_from_the_message() -> None:
    owners = _answers("timer_owner")
    for timer, message in _answers("timer_start_message").items():
        if message.endswith(("Accept", "Command")) or message == "Identity Request":
            assert owners[timer] in {"AMF", "SMF", "MME"}, timer
        if (
            message.startswith(("PDU Session", "Registration R", "Attach R", "Service", "PDN"))
            and "Command" not in message
        ):
            assert owners[timer] == "UE", timer


def test_specification_numbers_and_groups() -> None:
    ranges = {"1": "RAN4", "2": "RAN1", "3": "RAN2", "4": "RAN3"}
    assert set(_answers("spec_subject")) == set(_answers("spec_working_group"))
    for spec, group in _answers("spec_working_group").items():
        found = re.fullmatch(r"TS (\d\d)\.(\d)\d\d(-\d)?", spec)
        assert found is not None, spec
        series, block = found.group(1), found.group(2)
        if series in {"36", "38"}:
            assert group == ranges[block], spec
        if series in {"33", "35"}:
            assert group == "SA3", spec
        assert group in _answers("working_group_subject"), spec


def test_protocol_specifications_agree_with_titles() -> None:
    defined = {fact.subject: fact for fact in load_facts() if fact.relation == "protocol_spec"}
    titles = {answer: spec for spec, answer in _answers("spec_subject").items()}
    shared = set(defined) & set(titles)
    assert {"NGAP", "XnAP", "F1AP"} <= shared
    for protocol in shared:
        assert titles[protocol] in defined[protocol].answers, protocol


def test_releases_are_numbered() -> None:
    for feature, release in _answers("feature_release").items():
        assert re.fullmatch(r"Release (99|[5-9]|1[0-8])", release), feature


def test_numerologies_scale_by_powers_of_two() -> None:
    for name, spacing in _answers("numerology_spacing").items():
        factor = 2 ** int(name.removeprefix("numerology "))
        assert spacing == f"{15 * factor} kHz"
        assert int(_answers("numerology_slots")[name]) == factor
        assert int(_answers("spacing_slots_per_frame")[spacing]) == 10 * factor
        assert _first_number(_answers("spacing_slot_duration")[spacing]) == pytest.approx(1 / factor)


def test_resource_blocks_fit_the_channel() -> None:
    pattern = re.compile(r"a (\d+) MHz FR\d carrier with (\d+) kHz spacing")
    for subject, blocks in _answers("max_resource_blocks").items():
        found = pattern.fullmatch(subject)
        assert found is not None, subject
        bandwidth, spacing = 1000 * int(found.group(1)), int(found.group(2))
        occupied = int(blocks) * 12 * spacing
        # Each guard band is at least half a subcarrier wide; NR leaves less than 22 % of any channel unused.
        assert occupied + spacing < bandwidth, subject
        assert occupied > 0.78 * bandwidth, subject


def test_modulation_orders() -> None:
    for name, bits in _answers("modulation_bits").items():
        points = re.match(r"\d+", name)
        if points:
            assert 2 ** int(bits) == int(points.group()), name


def test_key_hierarchy_ends_at_the_home_key() -> None:
    parents = _answers("key_parent")
    for key in ("KNASenc", "KNASint", "KRRCenc", "KRRCint", "KUPenc", "KUPint", "KN3IWF"):
        chain = [key]
        while chain[-1] in parents:
            chain.append(parents[chain[-1]])
        assert chain[-3:] == ["KAMF", "KSEAF", "KAUSF"]
    lengths = _answers("security_length")
    for key in lengths:
        if key.startswith("K"):
            assert lengths[key] == ("128 bits" if key.endswith(("enc", "int")) else "256 bits"), key


def test_algorithm_families_share_their_ciphers() -> None:
    ciphers = _answers("algorithm_cipher")
    for number in "123":
        assert len({ciphers[family + number] for family in ("NEA", "NIA", "EEA", "EIA")}) == 1


def test_identifier_lengths_add_up() -> None:
    bits = {name: int(_first_number(text)) for name, text in _answers("identifier_length").items()}
    assert bits["SST"] + bits["SD"] == bits["S-NSSAI with SD"]
    assert bits["AMF Set ID"] + bits["AMF Pointer"] + bits["5G-TMSI"] == bits["5G-S-TMSI"]
    assert bits["MME Code"] + bits["M-TMSI"] == bits["S-TMSI"]
    assert bits["Type Allocation Code of an IMEI"] + bits["serial number of an IMEI"] + 1 == bits["IMEI"]
    assert bits["IMEI"] - 1 + bits["software version number of an IMEISV"] == bits["IMEISV"]
