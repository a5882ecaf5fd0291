"""The facts about nodes, reference points, protocols and acronyms agree with each other and with small tables here."""

from __future__ import annotations

import re

import pytest

from understudy.data.embedded.telecom.knowledge import Fact, load_facts, load_relations

TOPICS = ("acronyms", "network_functions", "protocols", "reference_points")
FACTS = [fact for fact in load_facts() if fact.topic in TOPICS]
RELATIONS = {name: relation for name, relation in load_relations().items() if relation.topic in TOPICS}
SPEC = re.compile(
    r"T[SR] \d{2}\.\d{3}(?:-\d)?|RFC \d{3,4}|O-RAN\.WG\d{1,2} \w+|ITU-T H\.\d+(?:\.\d)?|H\.\d+\.\d|IEEE \d+"
    r"|eCPRI \d\.\d|ETSI GS (?:NFV|MEC) \d{3}"
)
# Ports of the application protocols between radio nodes and towards the core, all registered with IANA.
RADIO_PORTS = {"S1AP": 36412, "X2AP": 36422, "NGAP": 38412, "XnAP": 38422, "E1AP": 38462, "F1AP": 38472}
# Small words that an acronym passes over.
PASSED_OVER = {"and", "of", "for", "the", "to", "over", "in", "plus"}
# Expansions whose acronym takes letters from inside words or drops a word.
IRREGULAR = {"ACLR", "ARPF", "DRX", "NETCONF", "UCMF", "VXLAN"}


def _of(relation: str) -> dict[str, Fact]:
    return {fact.subject: fact for fact in FACTS if fact.relation == relation}


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _is_subsequence(short: str, long: str) -> bool:
    rest = iter(long)
    return all(letter in rest for letter in short)


def test_the_topics_hold_enough_facts_in_every_relation() -> None:
    assert len(FACTS) >= 270
    assert {relation.topic for relation in RELATIONS.values()} == set(TOPICS)
    for name in RELATIONS:
        assert len(_of(name)) >= 4, name


def test_every_subject_has_one_answer_per_relation() -> None:
    pairs = [(fact.relation, fact.subject.lower()) for fact in FACTS]
    assert len(pairs) == len(set(pairs))


def test_no_question_has_two_answers() -> None:
    asked: dict[str, Fact] = {}
    for fact in FACTS:
        for question in RELATIONS[fact.relation].questions:
            other = asked.setdefault(question.format(subject=fact.subject), fact)
            assert other.answer == fact.answer, question


@pytest.mark.parametrize("topic", TOPICS)
def test_facts_are_short_sourced_and_free_of_stray_marks(topic: str) -> None:
    for fact in (fact for fact in FACTS if fact.topic == topic):
        assert re.fullmatch(rf"{fact.relation}-[a-z0-9-]+", fact.id), fact
        assert SPEC.fullmatch(fact.spec), fact
        assert 1 <= len(fact.answer.split()) <= 9, fact
        assert len({answer.lower() for answer in fact.answers}) == len(fact.answers), fact
        for text in (fact.subject, *fact.answers):
            assert text.isascii(), fact
            assert not set(text) & set("{};|"), fact


@pytest.mark.parametrize("name", RELATIONS)
def test_the_wordings_differ_and_name_the_subject(name: str) -> None:
    relation = RELATIONS[name]
    bare = {re.sub(r"\W+", " ", question.lower()) for question in relation.questions}
    assert len(bare) == 9
    assert all(question.count("{subject}") == 1 and question.endswith("?") for question in relation.questions)
    assert all("{subject}" in text and "{answer}" in text for text in relation.statements)
    assert "{subject}" in relation.noun
    assert "{answer}" not in relation.noun


@pytest.mark.parametrize("name", RELATIONS)
def test_few_classes_is_said_exactly_where_fewer_than_six_answers_exist(name: str) -> None:
    assert RELATIONS[name].few_classes == (len({fact.answer for fact in _of(name).values()}) < 6)


@pytest.mark.parametrize("name", [name for name, one in RELATIONS.items() if one.answer_type == "spec_number"])
def test_specification_answers_are_specification_numbers(name: str) -> None:
    for fact in _of(name).values():
        assert all(SPEC.fullmatch(answer) for answer in fact.answers), fact


def test_ports_are_ports_and_match_the_table() -> None:
    ports = {subject: int(fact.answer) for subject, fact in _of("protocol_port").items()}
    assert all(0 < port < 2**16 for port in ports.values())
    assert len(set(ports.values())) == len(ports)
    assert {name: ports[name] for name in RADIO_PORTS} == RADIO_PORTS


def test_radio_application_protocols_number_their_transport_below_their_messages() -> None:
    specs = {subject: fact.answer for subject, fact in _of("protocol_spec").items()}
    for name, transport in ((one, _of("protocol_transport")[one].spec) for one in RADIO_PORTS):
        assert transport[:-1] == specs[name][:-1]
        assert int(transport[-1]) + 1 == int(specs[name][-1])


def test_sctp_payload_identifiers_are_unique_and_belong_to_protocols_over_sctp() -> None:
    identifiers = {subject: int(fact.answer) for subject, fact in _of("sctp_payload_identifier").items()}
    assert len(set(identifiers.values())) == len(identifiers)
    transports = _of("protocol_transport")
    assert all(transports[name].answer == "SCTP" for name in identifiers if name in transports)
    ordered = ["S1AP", "X2AP", "NGAP", "XnAP", "F1AP", "E1AP", "W1AP"]
    assert [identifiers[name] for name in ordered] == [18, 27, 60, 61, 62, 64, 73]


@pytest.mark.parametrize("relation", ["acronym_full_name", "network_function_full_name", "protocol_full_name"])
def test_the_letters_of_a_name_follow_its_expansion(relation: str) -> None:
    for fact in _of(relation).values():
        short = re.sub(r"^(NR|LTE) (?=\w)|^(NAS) 5GS$| 1\.\d$", r"\2", fact.subject)
        if short in IRREGULAR:
            continue
        assert _is_subsequence(_letters(short), _letters(fact.answer)), fact
        words = [word for word in re.split(r"[\s/]+", fact.answer) if word.lower() not in PASSED_OVER]
        assert all(word[0].lower() in _letters(short) for word in words if short == fact.subject), fact


def test_a_service_based_interface_is_the_name_of_its_function() -> None:
    for name, fact in _of("network_function_interface").items():
        assert fact.answer == f"N{name.lower()}"


def test_a_service_is_produced_by_the_function_that_its_interface_names() -> None:
    interfaces = _of("network_function_interface")
    for service, fact in _of("network_service_producer").items():
        assert service.split("_")[0] == interfaces[fact.answer].answer
        assert service in _of("network_service_spec")


def test_far_ends_agree_with_the_pairs_and_with_each_other() -> None:
    pairs = {frozenset(re.findall(r"[\w/-]*[A-Z][\w/-]*", one)): fact.answer for one, fact in _pairs().items()}
    ends = {
        tuple(subject.split(" seen from the ")): fact.answer for subject, fact in _of("reference_point_peer").items()
    }
    compared = 0
    for (point, near), far in ends.items():
        if (point, far) in ends:
            assert ends[point, far] == near
        if frozenset({near, far}) in pairs:
            compared += 1
            assert pairs[frozenset({near, far})] == point
    assert compared >= 50


def _pairs() -> dict[str, Fact]:
    # Left out: pairs whose interface depends on the networks in which the two ends stand.
    placed = re.compile(r"\b(in the|visited|home)\b")
    return {subject: fact for subject, fact in _of("reference_point_between").items() if not placed.search(subject)}


def test_interfaces_lead_on_to_the_specification_of_their_protocol() -> None:
    defined = _of("protocol_spec")
    first = _of("reference_point_protocol").values()
    assert [fact.answer for fact in first if fact.answer not in defined] == ["E2AP", "eCPRI"]
    assert [fact.answer for fact in _of("message_protocol").values() if fact.answer not in defined] == ["E2AP"] * 3
    named = {fact.answer for fact in _of("reference_point_between").values()}
    assert len(named & {*_of("reference_point_protocol"), *_of("reference_point_spec")}) >= 50


def test_functions_named_in_answers_have_a_full_name() -> None:
    named = {fact.answer for fact in _of("reference_point_peer").values()}
    assert len(named & {*_of("network_function_full_name")}) >= 0.8 * len(named)
