"""Turn a reader's answer, block or net into findings in plain words.

One engine for all exercises: it runs the work, compares it with a reference, and says what is
different, where, what was expected, and what to look at. It never raises for wrong work.
`doctor` has no reference: it recognises the organs of a ResNet by watching it run.
"""

from .answers import GRADES, Finding, Report, function, numbers
from .compare import module
from .doctor import doctor

__all__ = ["GRADES", "Finding", "Report", "doctor", "function", "module", "numbers"]
