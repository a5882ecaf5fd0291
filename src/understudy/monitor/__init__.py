"""Watch a student in use – what is asked, what it answers, how often the teacher agrees – and learn from it."""
