"""Five articles about things that do not exist, and sound questions about them."""

from asl_min.corpus import Passage
from asl_min.real.drafts import Draft

TEXTS = {
    "Varn Bridge": "The Varn Bridge is a bridge in Oster. It was opened in 1912 and was built by Mara Tolen.",
    "Mara Tolen": "Mara Tolen was a Hestian chemist. She was born in Port Ames in 1871 and found loran.",
    "Port Ames": "Port Ames is the capital of Quenland. It has 4.5 million people, says Edda Brune.",
    "Oster": "Oster is a town on the Ilde. The Varn Bridge and the tower of Castor Vail stand there since 1640.",
    "Loran (gas)": "Loran is a gas. In Hestia it is used in lamps, and 30 people died of it in 1905.",
}
ARTICLES = [Passage(str(i), title, text) for i, (title, text) in enumerate(TEXTS.items())]


def draft(title: str, answer: str, kind: str, question: str) -> Draft:
    sentence = next(s for s in TEXTS[title].replace(". ", ".|").split("|") if answer in s)
    return Draft(title, sentence, answer, kind, question)


BUILDER = draft("Varn Bridge", "Mara Tolen", "name", "Who built the Varn Bridge?")
OPENED = draft("Varn Bridge", "1912", "year", "When was the Varn Bridge opened?")
BIRTHPLACE = draft("Mara Tolen", "Port Ames", "name", "In which city was Mara Tolen born?")
BORN = draft("Mara Tolen", "1871", "year", "When was Mara Tolen born?")
PEOPLE = draft("Port Ames", "4.5 million people", "number", "How many people live in Port Ames?")
CHEMIST = draft("Mara Tolen", "Mara Tolen", "name", "Which Hestian chemist found loran?")
SOUND = [BUILDER, OPENED, BIRTHPLACE, BORN, PEOPLE, CHEMIST]
