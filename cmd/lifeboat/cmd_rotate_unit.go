package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
)

// Where the rule and the unit are installed.
const (
	rulePath = "/etc/udev/rules.d/90-lifeboat.rules"
	unitPath = "/etc/systemd/system/lifeboat-attend@.service"
)

type unitFlags struct {
	root, console, page string
	remove, dryRun      bool
}

func (a *app) rotateInstallUnitCommand() *cobra.Command {
	var f unitFlags
	c := &cobra.Command{
		Use: "install-unit", Short: "Have the system attend to drives by itself when they are plugged in",
		Long: "Writes a udev rule and a systemd unit that run lifeboat rotate attend when a disk on USB, or one\n" +
			"that Lifeboat laid out, is plugged in. --dry-run prints both, --remove takes both away.",
		Example:     "  lifeboat rotate install-unit --dry-run\n  lifeboat rotate install-unit --page /srv/www/lifeboat/index.html",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.installUnit(c.Context(), f) },
	}
	c.Flags().StringVar(&f.root, "root", "/", "install below this folder, for an image of a system")
	c.Flags().StringVar(&f.console, "console", "/dev/tty1", "where the big letters go")
	c.Flags().StringVar(&f.page, "page", "", "where the page is written (default "+attendPage+" for root, else STATE/page/index.html)")
	c.Flags().BoolVar(&f.remove, "remove", false, "take the rule and the unit away")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "print what would be written or removed")
	return c
}

// unitFile is a file that is installed.
type unitFile struct {
	Path string `json:"path"`
	Text string `json:"text,omitempty"`
}

func (a *app) installUnit(ctx context.Context, f unitFlags) error {
	files, err := a.unitFiles(f)
	if err != nil {
		return err
	}
	if f.remove {
		for i := range files {
			files[i].Text = ""
		}
	}
	if !f.dryRun {
		if err := a.changeUnits(files, f); err != nil {
			return err
		}
		if filepath.Clean(f.root) == "/" {
			a.reloadUnits(ctx)
		}
	}
	if a.json {
		a.printJSON(files)
		return nil
	}
	for _, file := range files {
		switch {
		case f.dryRun && f.remove:
			a.print("would remove %s\n", file.Path)
		case f.dryRun:
			a.print("# %s\n%s\n", file.Path, file.Text)
		case f.remove:
			a.print("removed %s\n", file.Path)
		default:
			a.print("wrote %s\n", file.Path)
		}
	}
	return nil
}

func (a *app) changeUnits(files []unitFile, f unitFlags) error {
	for _, file := range files {
		var err error
		if f.remove {
			if err = os.Remove(file.Path); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		} else if err = os.MkdirAll(filepath.Dir(file.Path), 0o755); err == nil {
			err = replaceFile(file.Path, file.Text)
		}
		if errors.Is(err, fs.ErrPermission) {
			return &lifeboat.Problem{What: fmt.Sprintf("%s cannot be changed: %v", file.Path, err), Safe: "drives and restore points are untouched", Next: "run it as root", Err: err}
		}
		if err != nil {
			return fmt.Errorf("install the unit: %w", err)
		}
	}
	return nil
}

// replaceFile writes a file that all may read, as a whole or not at all.
func replaceFile(path, text string) error {
	next := path + ".next"
	if err := errors.Join(os.WriteFile(next, []byte(text), 0o644), os.Chmod(next, 0o644)); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// reloadUnits tells the running system of it. One without systemd goes without.
func (a *app) reloadUnits(ctx context.Context) {
	for _, command := range [][]string{{"systemctl", "daemon-reload"}, {"udevadm", "control", "--reload"}} {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			a.warn("%s: %v %s; it counts after the next start of this computer", strings.Join(command, " "), err, oneLine(string(out)))
		}
	}
}

// attendRule starts the unit for a file system on USB, and for one that Lifeboat
// laid out, on whatever it hangs. What it is is found out there.
const attendRule = `# Written by "lifeboat rotate install-unit". A disk that is plugged in is looked at; only a known drive is touched.
ACTION!="add", GOTO="lifeboat_end"
SUBSYSTEM!="block", GOTO="lifeboat_end"
ENV{ID_FS_USAGE}!="filesystem", GOTO="lifeboat_end"
ENV{ID_FS_TYPE}=="vfat", ENV{ID_FS_LABEL}=="LIFEBOAT", GOTO="lifeboat_end"
ENV{ID_BUS}=="usb", GOTO="lifeboat_attend"
ENV{ID_PART_ENTRY_NAME}=="LIFEBOAT-DRIVE", GOTO="lifeboat_attend"
GOTO="lifeboat_end"
LABEL="lifeboat_attend"
TAG+="systemd", ENV{SYSTEMD_WANTS}+="lifeboat-attend@$kernel.service"
LABEL="lifeboat_end"
`

// attendUnit has no option that gives it a table of mounts of its own (such as
// ProtectSystem or PrivateTmp): the drive would be mounted for it alone, and
// taken from it when it ends.
const attendUnit = `# Written by "lifeboat rotate install-unit".
[Unit]
Description=Lifeboat attends to the drive %%I
After=local-fs.target

[Service]
Type=exec
ExecStart=%s rotate attend --device /dev/%%I --state %s --console %s%s
TimeoutStopSec=5min
KillMode=mixed
Nice=5
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_RAWIO CAP_SYS_PTRACE CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_KILL CAP_SETUID CAP_SETGID CAP_NET_ADMIN CAP_SYS_NICE CAP_SYS_RESOURCE CAP_IPC_LOCK CAP_MKNOD
`

func (a *app) unitFiles(f unitFlags) ([]unitFile, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	state, err := filepath.Abs(a.stateDir)
	if err != nil {
		return nil, err
	}
	page := ""
	if f.page != "" {
		if page, err = filepath.Abs(f.page); err != nil {
			return nil, err
		}
		page = " --page " + unitWord(page)
	}
	unit := fmt.Sprintf(attendUnit, unitWord(program), unitWord(state), unitWord(f.console), page)
	return []unitFile{{filepath.Join(f.root, rulePath), attendRule}, {filepath.Join(f.root, unitPath), unit}}, nil
}

// unitWord writes a word so that systemd takes it as it is.
func unitWord(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`).Replace(s)
	if strings.ContainsAny(s, " \t'\"\\;") {
		return `"` + s + `"`
	}
	return s
}
