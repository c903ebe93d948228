"""What only a checkout needs: measurements, the rows of the result tables, checks. Run one from the checkout's root.

    python -m tools.check_applications

What comes with the installed package is the command `tf-terngrad`, in `tf_terngrad/cli`.
"""
