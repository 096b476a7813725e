"""What people handle: containers, their layers, commit, diff, volumes and clean-up."""
