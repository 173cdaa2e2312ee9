//go:build libvirt_dlopen && cgo

package libvirt

// Built says whether libvirt is in this program.
const Built = true
