"""Value systems: ordered values on Schwartz's motivational circle, one system a module.

Each module files one `ValueSystem` under kind `values`. A system resolves its own names, published
spellings, and the names of finer systems, which fold into their parent; it never resolves a coarser
name, which would be a guess.
"""
