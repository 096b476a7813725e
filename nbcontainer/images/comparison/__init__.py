"""What two trees have under the same paths: read inside a sandbox that has one of the trees as its root."""
