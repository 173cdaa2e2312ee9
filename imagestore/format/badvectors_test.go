package format

import (
	"bytes"
	"hash/crc32"
	"slices"
)

// badVectors makes one file for each rule of docs/format.md that refuses
// something, named for what is wrong. Checksums fit, so that nothing else is.
func badVectors(good map[string][]byte) map[string][]byte {
	bad := map[string][]byte{}
	set := func(name, of string, at int, values ...byte) []byte {
		b := bytes.Clone(good[of+".bin"])
		copy(b[at:], values)
		bad[name+".bin"] = b
		return b
	}
	longer := func(name, of string) { bad[name+".bin"] = append(bytes.Clone(good[of+".bin"]), 0) }
	crc := func(b []byte, at int) { le.PutUint32(b[at:], crc32.Checksum(b[:at], castagnoli)) }

	set("header-without-the-magic", "header", 0, 'l')
	set("header-of-version-zero", "header", 8, 0)
	set("header-of-newer-version", "header", 8, 2)

	set("superblock-label-is-not-utf-8", "superblock", 142, 0xff)
	set("superblock-label-beyond-the-end", "superblock", 140, 0xff, 0xff)
	longer("superblock-bytes-behind-the-end", "superblock")

	set("point-disks-not-ascending", "point", 111, '0')
	set("point-disk-too-large", "point", 65+7, 0x40, 0)
	set("point-impossible-count", "point", 57, 255)
	longer("point-bytes-behind-the-end", "point")

	set("head-point-above-the-head", "head", 44+56+16, 10)
	set("head-impossible-count", "head", 43, 255)
	longer("head-bytes-behind-the-end", "head")

	set("mark-impossible-count", "mark", 3, 255)
	longer("mark-bytes-behind-the-end", "mark")

	set("enclosure-too-long", "enclosure", 32+4, 1)
	set("enclosure-without-a-name", "enclosure", 72, 0, 0)
	set("enclosure-name-is-not-utf-8", "enclosure", 74, 0xff)
	set("enclosure-shorter-than-it-says", "enclosure", 32, 15)
	longer("enclosure-bytes-behind-the-end", "enclosure")
	set("part-beyond-the-longest-document", "part", 16, 64)
	longer("part-bytes-behind-the-end", "part")
	bad["part-without-bytes.bin"] = append(bytes.Clone(good["part.bin"][:20]), 0, 0, 0, 0)

	set("directory-frame-inside-the-header", "directory", 4, 10)
	set("directory-frame-without-chunks", "directory", 12, 0, 0)
	set("directory-chunk-too-long", "directory", 14+32+2, 255)
	set("directory-chunk-without-bytes", "directory", 14+32, 0, 0, 0, 0)
	longer("directory-bytes-behind-the-end", "directory")

	set("leaf-with-an-empty-id", "leaf", 4+4*4, make([]byte, 32)...)
	set("leaf-chunk-of-no-blocks", "leaf", 6, 0)
	set("leaf-reserved-byte-set", "leaf", 7, 1)
	bad["leaf-without-chunks.bin"] = []byte{'L', 0, 0, 0}
	longer("leaf-bytes-behind-the-end", "leaf")

	set("node-of-another-level", "node", 1, 2)
	bad["node-without-ids.bin"] = []byte{'N', 1, 0, 0}
	longer("node-bytes-behind-the-end", "node")

	set("keyring-without-the-magic", "keyring", 0, 'l')
	set("keyring-of-another-drive", "keyring", 8, 99)
	set("keyring-impossible-count", "keyring", 27, 255)
	longer("keyring-bytes-behind-the-end", "keyring")

	for name, change := range map[string]struct{ at, value int }{
		"slot-with-a-generation": {12, 1}, "slot-age-file-too-long": {67, 255}, "slot-note-too-long": {71, 255},
		"slot-of-unknown-type": {72, 3}, "slot-reserved-byte-set": {73, 1}} {
		b := set(name, "slot", change.at, byte(change.value))
		bad[name+".bin"] = appendChecksum(slices.Clip(b[:len(b)-checksumSize]))
	}

	for name, change := range map[string]struct {
		at     int
		values []byte
	}{
		"frame-header-of-unknown-type":               {8, []byte{3}},
		"frame-header-of-unknown-codec":              {9, []byte{2}},
		"frame-header-without-chunks":                {10, []byte{0, 0}},
		"frame-header-too-many-chunks":               {10, []byte{1, 16}},
		"frame-header-payload-too-long":              {12, []byte{1, 0, 4, 0}},
		"frame-header-sealed-longer-than-its-source": {16, []byte{255, 255, 0, 0}},
	} {
		crc(set(name, "frame-header", change.at, change.values...), 28)
	}
	set("frame-header-flipped-bit", "frame-header", 4, 2)

	for name, change := range map[string]struct {
		at     int
		values []byte
	}{
		"run-footer-without-entries":       {8, make([]byte, 8)},
		"run-footer-more-than-the-file":    {8, []byte{255, 255}},
		"run-footer-without-packs":         {16, make([]byte, 4)},
		"run-footer-too-large-a-filter":    {24, []byte{4}},
		"run-footer-reserved-bytes-set":    {40, []byte{1}},
		"run-footer-too-many-replacements": {20, []byte{0, 0, 2}},
	} {
		crc(set(name, "run-footer", change.at, change.values...), 60)
	}
	set("run-tail-pack-of-unknown-flags", "run-tail", 32+32, 4)
	longer("run-tail-bytes-behind-the-end", "run-tail")

	pack := good["pack.bin"]
	for name, change := range map[string]struct{ at, value int }{
		"pack-footer-points-nowhere": {8, 1}, "pack-footer-counts-other-frames": {16, 3}} {
		b := bytes.Clone(pack)
		foot := b[len(b)-PackFooterSize:]
		foot[change.at] = byte(change.value)
		crc(foot, 28)
		bad[name+".bin"] = b
	}
	return bad
}
