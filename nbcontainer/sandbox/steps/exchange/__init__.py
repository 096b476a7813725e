"""Steps for what the notebook and the program exchange files through: directories in /dev, and /in and /out."""
