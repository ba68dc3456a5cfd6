"""What lab 11 asks of an app, from outside: the points are in lab.toml."""

from streamlab.checks.uploads import bodies, crowd, limits, names, resume, tus, whole


def test_wire(launch, rng):
    """Every byte is there, however it came, and the answer says so in time."""
    bodies.uploads_arrive(launch(), rng)


def test_names(launch, workspace, rng):
    """A file gets the name that was sent, or none at all."""
    names.names_are_kept(launch, workspace.root, rng)


def test_limit(launch, rng):
    """What is too long is refused before it is there."""
    limits.limits_are_kept(launch, rng)


def test_crowd(launch, rng, tmp_path):
    """Many uploads cost little, and none of them waits for another one."""
    crowd.crowd_is_served(launch, rng, tmp_path)


def test_whole(launch, rng):
    """A file is whole or it is not there, whatever happens to its upload."""
    whole.files_are_whole(launch, rng)


def test_tus(launch, rng):
    """The three resumable requests are answered as tus says."""
    tus.speaks_tus(launch, rng)


def test_resume(launch, rng):
    """An upload that broke off goes on from where it was, also on a new server."""
    resume.uploads_resume(launch, rng)
