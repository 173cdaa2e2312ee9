package diskfile

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"lifeboat"
)

// installs are the commands that install QEMU's disk tools, by the names that
// distributions give themselves.
var installs = map[string]string{
	"debian": "apt-get install qemu-utils",
	"ubuntu": "apt-get install qemu-utils",
	"fedora": "dnf install qemu-img",
	"rhel":   "dnf install qemu-img",
	"centos": "dnf install qemu-img",
	"suse":   "zypper install qemu-tools",
	"arch":   "pacman -S qemu-img",
}

// findTool returns the path of one of QEMU's disk tools.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	release, _ := os.ReadFile("/etc/os-release")
	return "", &lifeboat.Problem{
		What: fmt.Sprintf("%s is not installed; images other than raw cannot be read or made without it", name),
		Safe: "nothing was read or changed",
		Next: installHint(release),
		Err:  ErrNoTool,
	}
}

// installHint names one command, from the text of os-release.
func installHint(release []byte) string {
	var ids []string
	lines := bufio.NewScanner(bytes.NewReader(release))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if key == "ID" || key == "ID_LIKE" {
			ids = append(ids, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	for _, id := range ids {
		if command, ok := installs[id]; ok {
			return "run: " + command
		}
	}
	return "install the disk tools of QEMU (the package is called qemu-utils, qemu-img or qemu-tools)"
}
