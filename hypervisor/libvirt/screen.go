//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bytes"
	"context"
	"fmt"

	lv "libvirt.org/go/libvirt"

	"lifeboat/hypervisor"
)

// mostPicture bounds a picture of a screen: 8192 x 8192 pixels of three bytes.
const mostPicture = 200 << 20

// Screenshot returns the machine's screen as a PNG.
func (h *Host) Screenshot(ctx context.Context, machine string) ([]byte, error) {
	d, err := h.find(ctx, machine)
	if err != nil {
		return nil, err
	}
	data, err := onHost(ctx, h, "take a picture of "+d.name, func(c *lv.Connect) ([]byte, error) {
		return withDomain(c, d, func(dom *lv.Domain) ([]byte, error) {
			stream, err := c.NewStream(0)
			if err != nil {
				return nil, err
			}
			defer stream.Free()
			if _, err := dom.Screenshot(stream, 0, 0); err != nil {
				return nil, err
			}
			return receive(ctx, stream, mostPicture)
		})
	})
	if err != nil || bytes.HasPrefix(data, []byte("\x89PNG\r\n")) {
		return data, err
	}
	if data, err = hypervisor.PNGFromPPM(data); err != nil {
		return nil, fmt.Errorf("read the picture of %s: %w", d.name, err)
	}
	return data, nil
}
