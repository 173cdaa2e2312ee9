//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"slices"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat"
)

// tpmFolder is where libvirt keeps the emulated module of a machine.
func tpmFolder(uuid string, t *lifeboat.TPM) string {
	if t.Version == "1.2" {
		return systemTPMs + "/" + uuid + "/tpm1.2"
	}
	return systemTPMs + "/" + uuid + "/tpm2"
}

// putTPM puts the state of a machine's TPM where libvirt looks for it, before the
// machine starts for the first time: a module that has state is not made anew.
// libvirtd writes it, through a pool over the folder. It goes with the domain.
func (h *Host) putTPM(ctx context.Context, uuid string, t *lifeboat.TPM) error {
	files, err := untarTPM(t.State)
	if err != nil {
		return err
	}
	random := make([]byte, 6)
	rand.Read(random)
	p := &pool{h: h, name: readPoolPrefix + hex.EncodeToString(random), path: tpmFolder(uuid, t)}
	text, err := (&libvirtxml.StoragePool{Type: "dir", Name: p.name, Target: &libvirtxml.StoragePoolTarget{
		Path: p.path, Permissions: &libvirtxml.StoragePoolTargetPermissions{Mode: "0700"}}}).Marshal()
	if err != nil {
		return err
	}
	return h.do(ctx, "keep the state of its TPM", func(c *lv.Connect) error {
		made, err := c.StoragePoolCreateXML(text, lv.STORAGE_POOL_CREATE_WITH_BUILD)
		if err != nil {
			return err
		}
		defer made.Free()
		defer made.Destroy() //nolint:errcheck // a pool over a folder has nothing to lose
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := putFile(ctx, c, made, name, files[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

// putFile writes a small file. Everybody might read it, but nobody gets into its
// folder: libvirt gives that to the emulator's user, and the file stays root's.
func putFile(ctx context.Context, c *lv.Connect, p *lv.StoragePool, name string, data []byte) error {
	text, err := (&libvirtxml.StorageVolume{
		Name:     name,
		Capacity: &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: uint64(len(data))},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "raw"},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0644"},
		},
	}).Marshal()
	if err != nil {
		return err
	}
	v, err := p.StorageVolCreateXML(text, 0)
	if err != nil {
		return err
	}
	if err := v.Free(); err != nil {
		return err
	}
	return uploadRun(ctx, c, p, name, bytesReader(data), lifeboat.Extent{Length: int64(len(data))})
}
