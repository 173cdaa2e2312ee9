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

// SealTo returns a writer whose bytes only this identity reads again, for what
// does not fit in memory. It has to be closed.
func (i *Identity) SealTo(w io.Writer) (io.WriteCloser, error) {
	sealed, err := age.Encrypt(w, i.key.Recipient())
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed, nil
}

// UnsealFrom reads what SealTo wrote. Bytes that were changed are an error, and
// so is an end that comes too early.
func (i *Identity) UnsealFrom(r io.Reader) (io.Reader, error) {
	plain, err := age.Decrypt(r, i.key)
	if err != nil {
		return nil, fmt.Errorf("open a sealed file: %w", err)
	}
	return plain, nil
}
