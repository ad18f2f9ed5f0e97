"""Empty: their evaluations import pandas, and none of them is run."""
