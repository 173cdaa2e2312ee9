package qemu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"

	"lifeboat/hypervisor"
)

// Screenshot returns the machine's screen as a PNG.
func (h *Host) Screenshot(ctx context.Context, name string) ([]byte, error) {
	m, err := h.find(name)
	if err != nil {
		return nil, err
	}
	mon, err := m.monitor(ctx, commandSocket)
	if err != nil {
		return nil, fmt.Errorf("take a picture of %s: %w", m.name(), err)
	}
	defer mon.close()
	dir, err := os.MkdirTemp(m.sockets(), "screen-*")
	if err != nil {
		return nil, fmt.Errorf("take a picture of %s: %w", m.name(), err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "screen")
	err = mon.run(ctx, "screendump", args{"filename": path, "format": "png"}, nil)
	plain := refused(err)
	if plain {
		// A QEMU that is older, or was built without PNG.
		err = mon.run(ctx, "screendump", args{"filename": path}, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("take a picture of %s: %w", m.name(), err)
	}
	data, err := os.ReadFile(path)
	if err == nil && plain {
		data, err = pngFromPPM(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read the picture of %s: %w", m.name(), err)
	}
	return data, nil
}

// mostPixels bounds a picture: more than any screen that QEMU can show.
const mostPixels = 64 << 20

// pngFromPPM converts the only form of picture that every QEMU writes: "P6",
// width, height, 255, and three bytes for each pixel.
func pngFromPPM(data []byte) ([]byte, error) {
	r := bufio.NewReader(bytes.NewReader(data))
	var magic string
	var width, height, most int
	if _, err := fmt.Fscan(r, &magic, &width, &height, &most); err != nil {
		return nil, fmt.Errorf("the picture has no header: %w", err)
	}
	if magic != "P6" || most != 255 || width < 1 || height < 1 || width > mostPixels/height {
		return nil, errors.New("the picture is not of the form that QEMU writes")
	}
	if _, err := r.ReadByte(); err != nil {
		return nil, err
	}
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	var pixel [3]byte
	for y := range height {
		for x := range width {
			if _, err := io.ReadFull(r, pixel[:]); err != nil {
				return nil, fmt.Errorf("the picture ends early: %w", err)
			}
			picture.SetNRGBA(x, y, color.NRGBA{pixel[0], pixel[1], pixel[2], 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Console says where the machine's screen and serial line are.
func (h *Host) Console(ctx context.Context, name string) (hypervisor.Console, error) {
	m, err := h.find(name)
	if err != nil {
		return hypervisor.Console{}, err
	}
	console := hypervisor.Console{SerialLog: m.path(serialLogFile)}
	power, err := m.power(ctx)
	if err != nil || power == hypervisor.PowerOff {
		return console, err
	}
	console.VNCSocket = filepath.Join(m.sockets(), vncSocket)
	console.SerialSocket = filepath.Join(m.sockets(), serialSocket)
	return console, nil
}
