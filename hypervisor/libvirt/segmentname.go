package libvirt

import (
	"crypto/sha256"
	"encoding/hex"
)

// segmentPrefix begins the names of the networks that Lifeboat makes.
const segmentPrefix = "lifeboat-"

// segmentHash is what a segment's network and bridge are called by: a segment
// may have any name, a bridge at most 15 letters.
func segmentHash(name string) string {
	sum := sha256.Sum256([]byte("segment\x00" + name))
	return hex.EncodeToString(sum[:5])
}

// segmentName is the network of a segment, and segmentBridge its bridge.
func segmentName(name string) string   { return segmentPrefix + segmentHash(name) }
func segmentBridge(name string) string { return "lbs" + segmentHash(name) }
