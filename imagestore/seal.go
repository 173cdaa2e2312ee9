package imagestore

import (
	"bytes"
	"fmt"
	"io"

	"filippo.io/age"
)

// Seal encrypts a small file so that only this identity opens it: what a
// control machine keeps about its site.
func (i *Identity) Seal(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, i.key.Recipient())
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return out.Bytes(), nil
}

// sealedLimit bounds what Unseal gives back.
const sealedLimit = 16 << 20

// Unseal opens what Seal made. The error says nothing of the contents.
func (i *Identity) Unseal(sealed []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), i.key)
	if err != nil {
		return nil, fmt.Errorf("open a sealed file: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, sealedLimit+1))
	if err != nil {
		return nil, fmt.Errorf("open a sealed file: %w", err)
	}
	if len(plain) > sealedLimit {
		return nil, fmt.Errorf("open a sealed file: it is larger than %d bytes", sealedLimit)
	}
	return plain, nil
}
