//go:build libvirt_dlopen && cgo

package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	lv "libvirt.org/go/libvirt"

	"lifeboat/fixtures/libvirtd"
)

// defineSmall defines a domain without disks that starts nothing but firmware,
// with more XML inside <domain>, and returns its UUID.
func defineSmall(t *testing.T, d *libvirtd.Daemon, name, more string) (uuid string) {
	t.Helper()
	return define(t, d, `<domain type='qemu'><name>`+name+`</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os>`+more+`</domain>`)
}

// define hands XML to the daemon and returns the UUID of its domain.
func define(t testing.TB, d *libvirtd.Daemon, xml string) (uuid string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(path, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Virsh(t, "define", path)
	_, rest, _ := strings.Cut(xml, "<name>")
	name, _, _ := strings.Cut(rest, "</name>")
	return strings.TrimSpace(d.Virsh(t, "domuuid", name))
}

// errorOf is what libvirt's client returns with that code.
func errorOf(code int, text string) error {
	return lv.Error{Code: lv.ErrorNumber(code), Message: text, Level: lv.ERR_ERROR}
}

// makePool gives the daemon the pool that a host uses when none is named.
func makePool(t *testing.T, d *libvirtd.Daemon) {
	t.Helper()
	if err := os.Mkdir(d.Dir+"/pool", 0o711); err != nil {
		t.Fatal(err)
	}
	d.Virsh(t, "pool-create-as", "default", "dir", "--target", d.Dir+"/pool")
}
