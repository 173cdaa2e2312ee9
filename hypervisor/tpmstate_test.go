package hypervisor_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/hypervisor"
)

func TestWhatATPMKeepsTravelsAndNothingElse(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "tpm2")
	for _, name := range []string{"tpm2-00.permall", "tpm2-00.volatilestate", ".lock", "swtpm.log"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte("state of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state, err := hypervisor.PackTPM(from)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := hypervisor.PackTPM(from); err != nil || !bytes.Equal(again, state) {
		t.Error("the same state packs into other bytes")
	}
	if err := hypervisor.UnpackTPM(state, to); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(to)
	data, _ := os.ReadFile(filepath.Join(to, "tpm2-00.permall"))
	if len(entries) != 1 || string(data) != "state of tpm2-00.permall" {
		t.Errorf("%v with %q", entries, data)
	}
	if info, err := os.Stat(filepath.Join(to, "tpm2-00.permall")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error("others can read the state")
	}
	for _, dir := range []string{t.TempDir(), filepath.Join(to, "nothing")} {
		if state, err := hypervisor.PackTPM(dir); state != nil || err != nil {
			t.Errorf("%s: %d bytes, %v", dir, len(state), err)
		}
	}
}

func TestAStateOfATPMThatIsNoneIsRefused(t *testing.T) {
	for name, state := range map[string][]byte{
		"nothing":       nil,
		"no archive":    []byte(strings.Repeat("x", 2000)),
		"another name":  archive(tar.Header{Name: "passwd", Typeflag: tar.TypeReg, Size: 1}),
		"a way out":     archive(tar.Header{Name: "../tpm2-00.permall", Typeflag: tar.TypeReg, Size: 1}),
		"a link":        archive(tar.Header{Name: "tpm2-00.permall", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"too much":      archive(tar.Header{Name: "tpm2-00.permall", Typeflag: tar.TypeReg, Size: 2 << 20}),
		"the same file": append(archive(tar.Header{Name: "tpm2-00.permall", Typeflag: tar.TypeReg, Size: 1})[:1024], archive(tar.Header{Name: "tpm2-00.permall", Typeflag: tar.TypeReg, Size: 1})...),
	} {
		dir := filepath.Join(t.TempDir(), "tpm2")
		if err := hypervisor.UnpackTPM(state, dir); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// FuzzUnpackTPM: whatever it is given, nothing but a TPM's files is written.
func FuzzUnpackTPM(f *testing.F) {
	f.Add(archive(tar.Header{Name: "tpm2-00.permall", Typeflag: tar.TypeReg, Size: 100}))
	f.Fuzz(func(t *testing.T, state []byte) {
		dir := filepath.Join(t.TempDir(), "tpm2")
		err := hypervisor.UnpackTPM(state, dir)
		again, packErr := hypervisor.PackTPM(dir)
		if packErr != nil || err == nil && again == nil {
			t.Fatalf("what was unpacked does not pack: %v", packErr)
		}
	})
}

// archive is a tar archive of one file of zeros.
func archive(h tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&h)
	w.Write(make([]byte, h.Size))
	w.Close()
	return b.Bytes()
}
