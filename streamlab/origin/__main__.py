"""`python -m streamlab.origin`: serve an answer of every kind until interrupted."""

from streamlab.origin.samples import main

if __name__ == "__main__":
    main()
