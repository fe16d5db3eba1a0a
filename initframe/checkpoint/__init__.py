"""Models on disk: written whole or not at all, read as data and never as code."""

from initframe.checkpoint.filling import write_checkpoint as write_checkpoint
from initframe.checkpoint.layout import begin as begin
from initframe.checkpoint.reading import load_checkpoint as load_checkpoint
from initframe.checkpoint.writing import held_by as held_by
from initframe.checkpoint.writing import pour as pour
from initframe.checkpoint.writing import replacing as replacing
from initframe.checkpoint.writing import save_tensors as save_tensors
