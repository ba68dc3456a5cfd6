"""What students get: the tree of chapters and labs, and the workspace that is made from it."""
