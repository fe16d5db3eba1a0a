"""What the user has: a model, read as slots."""

from initframe.model.place import Place as Place
from initframe.model.slot import Slot as Slot
from initframe.model.survey import Survey as Survey
from initframe.model.survey import survey as survey
