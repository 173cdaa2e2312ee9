package diskfile

import (
	"fmt"
	"os/exec"

	"lifeboat"
)

// findTool returns the path of one of QEMU's disk tools. Where it is missing the
// problem wraps [ErrNoTool]; which command installs it here, the caller knows.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	return "", &lifeboat.Problem{
		What: fmt.Sprintf("%s is not installed; images other than raw cannot be read or made without it", name),
		Safe: "nothing was read or changed",
		Next: "install the disk tools of QEMU (the package is called qemu-utils, qemu-img or qemu-tools)",
		Err:  ErrNoTool,
	}
}
