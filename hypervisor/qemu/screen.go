package qemu

import (
	"context"
	"fmt"
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
		data, err = hypervisor.PNGFromPPM(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read the picture of %s: %w", m.name(), err)
	}
	return data, nil
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
