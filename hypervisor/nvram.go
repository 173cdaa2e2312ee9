package hypervisor

import "bytes"

// variableStore is the id of the flash volume that UEFI firmware for QEMU keeps
// its variables in (gEfiSystemNvDataFvGuid of EDK II), as it stands in its
// header behind 16 zero bytes; the word behind it and its length are "_FVH".
var variableStore = []byte{0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50}

// IsVariableStore says that these are UEFI variables in the form that QEMU's
// firmware reads, as plain bytes. Other hypervisors have forms of their own:
// those variables stay with the restore point, and firmware here starts with
// none and looks for a boot loader at the path that every disk may have.
func IsVariableStore(nvram []byte) bool {
	return len(nvram) >= 64 && bytes.Equal(nvram[16:32], variableStore) && bytes.Equal(nvram[40:44], []byte("_FVH"))
}
