package libvirt

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
)

// tpmStateFile is the form of the names of swtpm's own files.
var tpmStateFile = regexp.MustCompile(`^tpm(2)?-00\.permall$`)

// mostTPMState bounds the state of a TPM. Real ones have some 10 KiB.
const mostTPMState = 1 << 20

// untarTPM returns the files in the state of a TPM that are needed. It comes from
// a point, so nothing is believed: a file of any other name stays where it is.
func untarTPM(state []byte) (map[string][]byte, error) {
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(state)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the state of its TPM is damaged: %w", err)
		}
		if header.Typeflag != tar.TypeReg || !tpmStateFile.MatchString(header.Name) || header.Size > mostTPMState {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("the state of its TPM is damaged: %w", err)
		}
		files[header.Name] = data
	}
	if len(files) == 0 {
		return nil, errors.New("the state of its TPM holds nothing that a TPM keeps")
	}
	return files, nil
}
