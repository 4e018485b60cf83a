"""One ranking metric per module, each with its formula; `registry` finds them.

For a user with test items T and a list r of K items, best first, h_j = 1 if r_j is in T, and m = min(k, |T|).
"""
