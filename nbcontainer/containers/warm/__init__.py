"""What is made before a cell needs it: started containers, and open files."""
