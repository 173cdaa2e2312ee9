package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"lifeboat/internal/durable"
	"lifeboat/internal/durable/dirtest"
)

func TestOSDirKeepsTheContractOfDir(t *testing.T) {
	dirtest.Run(t, func(t *testing.T, readOnly bool) durable.Dir {
		path := t.TempDir()
		if readOnly {
			if err := os.WriteFile(filepath.Join(path, "here"), []byte("there"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := durable.OpenOS(path, readOnly)
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
