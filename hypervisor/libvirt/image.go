package libvirt

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
)

// imageInfo is what qemu-img tells of an image.
type imageInfo struct {
	VirtualSize int64 `json:"virtual-size"`
	Specific    struct {
		Data struct {
			Bitmaps []struct {
				Name  string   `json:"name"`
				Flags []string `json:"flags"`
			} `json:"bitmaps"`
		} `json:"data"`
	} `json:"format-specific"`
}

// bitmap says whether the image has a bitmap and whether that was closed cleanly.
func (i imageInfo) bitmap(name string) (there, sound bool) {
	for _, b := range i.Specific.Data.Bitmaps {
		if b.Name == name {
			return true, !slices.Contains(b.Flags, "in-use") && slices.Contains(b.Flags, "auto")
		}
	}
	return false, false
}

// tool returns the path of one of QEMU's programs.
func tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", &lifeboat.Problem{
			What: "this computer has no " + name,
			Safe: "nothing was changed",
			Next: "install it: apt-get install qemu-utils (dnf install qemu-img)",
			Err:  err,
		}
	}
	return path, nil
}

// runImage runs qemu-img and returns what it printed.
func runImage(ctx context.Context, arguments ...string) ([]byte, error) {
	path, err := tool("qemu-img")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, arguments...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		text := strings.TrimPrefix(strings.TrimSpace(said.String()), "qemu-img: ")
		return nil, fmt.Errorf("qemu-img %s: %s", arguments[0], hypervisor.GuestWords(text))
	}
	return out.Bytes(), nil
}

// imageChain looks at an image and at those that it stands on, itself first.
func imageChain(ctx context.Context, path, format string) ([]imageInfo, error) {
	out, err := runImage(ctx, "info", "-U", "--output=json", "--backing-chain", "-f", format, path)
	if err != nil {
		return nil, err
	}
	var chain []imageInfo
	if err := json.Unmarshal(out, &chain); err != nil || len(chain) == 0 {
		return nil, fmt.Errorf("understand what qemu-img said of %s: %w", path, err)
	}
	return chain, nil
}

// canBypassCache says that a file can be read without the page cache, which an
// export would only fill with what nobody reads again.
func canBypassCache(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}
