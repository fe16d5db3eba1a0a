"""The plan: recipe × model, as data that can be read before anything happens."""

from initframe.plan.assignment import Assignment as Assignment
from initframe.plan.plan import Plan as Plan
