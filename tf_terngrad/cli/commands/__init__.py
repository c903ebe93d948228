"""The sub-commands of `tf-terngrad`: a module here is a command of its name.

Its docstring is the text of `--help`: a sentence of what it does, then examples. It has two functions:
`add_arguments(parser)`, and `run(arguments)`, which raises what goes wrong.
"""
