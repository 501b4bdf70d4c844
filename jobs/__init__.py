"""Work in bulk: enrolments from CSV and replacements of whole agencies, checked first and then done row by row."""
