package qemu

import (
	"crypto/rand"
	"fmt"
	"strings"

	"lifeboat"
)

// addIdentity tells the guest who it is: what licences hang on, and the
// generation that tells a domain controller that its disks went back in time.
func (m *machine) addIdentity(c *cmdline) {
	c.add("-uuid", m.uuid())
	if words := smbiosWords(m.def.Machine.SMBIOS); words != "" {
		c.add("-smbios", "type=1"+words)
	}
	if m.def.Generation != "" {
		c.device(options{"driver": "vmgenid", "id": "generation", "guid": m.def.Generation})
	}
}

func smbiosWords(s lifeboat.SMBIOS) string {
	var b strings.Builder
	for _, word := range [][2]string{{"manufacturer", s.Manufacturer}, {"product", s.Product}, {"serial", s.Serial}} {
		if word[1] != "" {
			fmt.Fprintf(&b, ",%s=%s", word[0], comma(word[1]))
		}
	}
	return b.String()
}

// newGeneration is a random UUID.
func newGeneration() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
