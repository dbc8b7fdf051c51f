"""EMO-DB: ten German sentences by ten actors, seven emotions, selected by a listening test.

Licence: not verified; others describe it as unrestricted, or as CC BY 4.0 (the release on Zenodo).
Source: http://emodb.bilderbar.info/ (download.zip), or https://zenodo.org/records/17651657 in another layout
Official split: none.
Expected: 535 utterances of 10 actors: angry 127, boredom 81, neutral 79, happy 71, fear 69, sad 62, disgust 46.
Known faults: takes of one sentence by one actor differ in the last letter of the name; EmoBox's folds share actors
    between train and test. ``erkennung.txt`` (Latin-1, decimal commas) has the percentages of 20 listeners who
    recognised the emotion and who found it natural: they become the columns Recognized and Natural.
Citation: F. Burkhardt et al., A Database of German Emotional Speech, Interspeech 2005.
"""

from __future__ import annotations

import re
from pathlib import Path

from s3prl_emotion.corpora.prepare.preparer import Clip, Expected, NoOptions, Prepared, Preparer
from s3prl_emotion.corpora.prepare.source_files import first_file, named_files, number, read_text
from s3prl_emotion.errors import LabelError

TITLE = "EMO-DB"
LAYOUT = "wav/03a01Fa.wav and the like, at any depth, and erkennung.txt if there is one"
CODES = {
    "W": "angry", "L": "boredom", "E": "disgust", "A": "fear", "F": "happy", "T": "sad", "N": "neutral",
}  # fmt: skip
MEN = frozenset({"03", "10", "11", "12", "15"})
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen.",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
EXPECTED = Expected(
    535,
    {"angry": 127, "boredom": 81, "neutral": 79, "happy": 71, "fear": 69, "sad": 62, "disgust": 46},
    speakers=10,
)
_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")


def read(root: Path, options: NoOptions) -> Prepared:
    """Read the utterances of EMO-DB.

    Raises:
        LabelError: ROOT does not look like EMO-DB, or ``erkennung.txt`` is malformed
    """
    files, notes = named_files(root, _NAME, TITLE, LAYOUT)
    ratings = _listening_test(root)
    clips = []
    for path, match in files:
        speaker, sentence, code, _ = match.groups()
        if code not in CODES:
            raise LabelError(f"{path}: emotion {code} is none of {', '.join(CODES)}; rename or remove the file")
        more = {"SentenceID": sentence, **ratings.get(path.stem, {})}
        gender = "Male" if speaker in MEN else "Female"
        clips.append(Clip(path, CODES[code], speaker, gender, text=SENTENCES.get(sentence), more=more))
    if ratings and any(path.stem not in ratings for path, _ in files):
        notes.append("erkennung.txt does not have every utterance: some have no Recognized nor Natural")
    return Prepared(root, clips, expected=EXPECTED, notes=notes)


def _listening_test(root: Path) -> dict[str, dict[str, str]]:
    """Return the percentages of listeners who recognised the emotion and who found it natural, by stem."""
    path = first_file(root, "erkennung.txt", "../erkennung.txt")
    if path is None:
        return {}
    head, *lines = [line.replace("\xa0", " ").split() for line in read_text(path).splitlines() if line.strip()] or [[]]
    columns = {name.lower(): index for index, name in enumerate(head)}
    recognised = columns.get("erkannt")
    natural = next((index for name, index in columns.items() if name.startswith("nat")), None)
    if recognised is None or columns.get("satz") != 0:
        raise LabelError(f"{path}: its first line should name the columns Satz and erkannt, but is {' '.join(head)!r}")
    percentages = {}
    for cells in lines:
        values = {}
        for name, index in (("Recognized", recognised), ("Natural", natural)):
            value = number(cells[index].replace(",", ".")) if index is not None and index < len(cells) else None
            if value is not None:
                values[name] = f"{value:g}"
        percentages[Path(cells[0]).stem] = values
    return percentages


PREPARER = Preparer("emodb", TITLE, "German, acted; recognition rates, transcripts", "not verified", LAYOUT, read)
