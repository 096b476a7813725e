// Prints the entries of tars as Go's archive/tar reads them: type flag, size, name and target.
package main

import (
	"archive/tar"
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, path := range os.Args[1:] {
		f, err := os.Open(path)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(out, "= %s\n", path)
		r := tar.NewReader(f)
		for {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				fmt.Fprintf(out, "! %v\n", err)
				break
			}
			fmt.Fprintf(out, "%d %d n%s l%s\n", h.Typeflag, h.Size, hex.EncodeToString([]byte(h.Name)), hex.EncodeToString([]byte(h.Linkname)))
		}
		f.Close()
	}
}
