package libvirt

import (
	"crypto/sha256"
	"encoding/hex"
)

// segmentPrefix begins the names of the networks that Lifeboat makes, and
// segmentBridgePrefix those of their bridges.
const (
	segmentPrefix       = "lifeboat-"
	segmentBridgePrefix = "lbs"
)

// segmentName is the network of a segment. A segment may have any name; that of a
// bridge has at most 15 letters.
func segmentName(name string) string {
	sum := sha256.Sum256([]byte("segment\x00" + name))
	return segmentPrefix + hex.EncodeToString(sum[:6])
}
