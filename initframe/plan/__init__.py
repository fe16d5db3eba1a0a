"""The plan: recipe × model, as data that can be read before anything happens."""

from initframe.plan.assignment import Assignment as Assignment
from initframe.plan.plan import Plan as Plan
from initframe.plan.plan import leftovers as leftovers
from initframe.plan.text import WIDTH as WIDTH
from initframe.plan.text import counted as counted
from initframe.plan.text import moments as moments
from initframe.plan.text import shape as shape
from initframe.plan.text import table as table
from initframe.plan.text import wrapped as wrapped
