"""Claims of the field put to the test: what `make evidence` runs, and the pages it writes.

A claim is a file in `docs/evidence/claims`: what is said, by whom, a plan of a comparison, and what
its result must show. What was found is kept beside it as numbers; the page, its picture and the
overview are made from these two, so that nothing on them is typed.
"""
