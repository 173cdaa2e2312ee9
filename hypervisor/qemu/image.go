package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat"
)

// imageInfo is what qemu-img tells of an image.
type imageInfo struct {
	VirtualSize int64 `json:"virtual-size"`
	Specific    struct {
		Data struct {
			Bitmaps []imageBitmap `json:"bitmaps"`
		} `json:"data"`
	} `json:"format-specific"`
}

type imageBitmap struct {
	Name  string   `json:"name"`
	Flags []string `json:"flags"`
}

// image runs qemu-img and returns what it printed.
func (h *Host) image(ctx context.Context, arguments ...string) ([]byte, error) {
	path, err := h.tool("qemu-img")
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
		if strings.Contains(text, "No space left on device") {
			return nil, fmt.Errorf("%s: %w", text, unix.ENOSPC)
		}
		return nil, fmt.Errorf("qemu-img %s: %s", arguments[0], text)
	}
	return out.Bytes(), nil
}

// imageInfo looks at an image, which may be in use.
func (h *Host) imageInfo(ctx context.Context, path, format string) (imageInfo, error) {
	out, err := h.image(ctx, "info", "-U", "--output=json", "-f", format, path)
	if err != nil {
		return imageInfo{}, err
	}
	var info imageInfo
	if err := json.Unmarshal(out, &info); err != nil {
		return imageInfo{}, fmt.Errorf("understand what qemu-img said of %s: %w", path, err)
	}
	return info, nil
}

// makeImage makes an empty qcow2 image. The size is rounded up to a sector,
// which is what QEMU shows a guest in any case.
func (h *Host) makeImage(ctx context.Context, path string, sizeBytes int64) error {
	size := (sizeBytes + 511) &^ 511
	_, err := h.image(ctx, "create", "-q", "-f", "qcow2", path, strconv.FormatInt(size, 10))
	return err
}

// missingTool is the problem of a program that is not installed.
func missingTool(name string, err error) error {
	pkg := "qemu-utils"
	if strings.HasPrefix(name, "qemu-system") {
		pkg = "qemu-system-x86"
	}
	return &lifeboat.Problem{
		What: "this host has no " + name,
		Safe: "nothing was changed",
		Next: fmt.Sprintf("install QEMU: apt-get install %s  (dnf install qemu-kvm qemu-img; apk add qemu-system-x86_64 qemu-img)", pkg),
		Err:  err,
	}
}

// freeSpace is how many bytes can be written in a folder.
func freeSpace(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("look at the space in %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, int64(s.Blocks) * s.Bsize, nil
}

// canBypassCache says that files in a folder can be read and written without
// the page cache: some file systems refuse.
func canBypassCache(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}
