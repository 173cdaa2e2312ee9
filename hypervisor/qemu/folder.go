package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// longestFolder keeps a folder's name, and the names made from it, under the 255
// bytes of most file systems.
const longestFolder = 120

// folderName turns any name into one that is safe as a folder: letters of ASCII,
// digits, '-', '_' and inner dots stay, every other byte becomes =XX, and a very
// long name ends in a hash. Different names give different folders.
func folderName(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			c == '-' || c == '_' || c == '.' && i > 0
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	if s := b.String(); len(s) <= longestFolder {
		return s
	}
	sum := sha256.Sum256([]byte(name))
	return b.String()[:longestFolder-18] + "=-" + hex.EncodeToString(sum[:8])
}

// nodeName is the name of a node or device that belongs to a disk. QEMU takes at
// most 31 bytes, so a long key becomes a hash.
func nodeName(prefix, key string) string {
	if len(prefix)+len(key) <= 31 {
		return prefix + key
	}
	sum := sha256.Sum256([]byte(key))
	// No key holds a dot.
	return prefix + "." + hex.EncodeToString(sum[:10])
}
