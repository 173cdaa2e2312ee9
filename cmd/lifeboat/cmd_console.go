package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/hypervisor"
)

func (a *app) consoleCommand() *cobra.Command {
	var shot string
	c := &cobra.Command{
		Use: "console MACHINE", Short: "Say how to reach a machine's screen and serial line", GroupID: "back",
		Example:     "  lifeboat console web\n  lifeboat console web --screenshot web.png",
		Annotations: exits(), Args: exactArgs("the name of a machine"),
		ValidArgsFunction: a.completeMachines,
		RunE: func(c *cobra.Command, args []string) error {
			return a.console(c.Context(), args[0], shot)
		},
	}
	c.Flags().StringVar(&shot, "screenshot", "", "write the screen to this PNG file instead")
	return c
}

func (a *app) console(ctx context.Context, name, shot string) error {
	s, err := a.siteOrNone()
	if err != nil {
		return err
	}
	all, unreachable := a.machinesNamed(ctx, s, []string{name})
	found, err := findMachines(all, []string{name})
	if err != nil {
		return errors.Join(err, unreachable)
	}
	m := found[0]
	con, err := m.host.Console(ctx, m.HostID)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case m.Power == hypervisor.PowerOff:
		return isOff(name, con)
	case shot != "":
		return a.screenshot(ctx, m, shot)
	case a.json:
		a.printJSON(con)
	default:
		a.showConsole(name, con)
	}
	return nil
}

// isOff says where a machine's last words are, when it has no screen.
func isOff(name string, con hypervisor.Console) error {
	p := &lifeboat.Problem{
		What: fmt.Sprintf("%s is off: it has no screen and no serial line now", name),
		Safe: "nothing was changed",
		Next: "see what the machines are doing: lifeboat machine list",
	}
	if _, err := os.Stat(con.SerialLog); err == nil {
		p.Next = "read what it printed before it went off: tail -n 50 " + shellWord(con.SerialLog)
	}
	return p
}

func (a *app) screenshot(ctx context.Context, m machineOn, path string) error {
	png, err := m.host.Screenshot(ctx, m.HostID)
	if err != nil {
		return fmt.Errorf("%s: take a picture of its screen: %w", m.Machine.Name, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := writeFile(path, png, 0o644); err != nil {
		return err
	}
	if a.json {
		a.printJSON(struct {
			Machine    string `json:"machine"`
			Screenshot string `json:"screenshot"`
		}{m.Machine.Name, path})
	}
	return nil
}

func (a *app) showConsole(name string, con hypervisor.Console) {
	hostname, _ := os.Hostname()
	switch {
	case con.URL != "":
		a.print("%s has its screen in a browser, for who may sign in there:\n\n  %s\n", name, con.URL)
	case con.VNCSocket != "":
		a.print("%s has its screen on a Unix socket of this computer. From where you sit:\n\n", name)
		a.print("  ssh -N -L 5901:%s %s@%s\n  then point a VNC viewer at localhost:5901\n", con.VNCSocket, userName(), hostname)
	default:
		a.print("%s has no screen on a socket of this computer: its host's own tools show it (libvirt: virt-viewer).\n"+
			"A picture of it: lifeboat console %s --screenshot FILE.png\n", name, shellWord(name))
	}
	if con.SerialLog != "" {
		a.print("\nIts serial line, so far:  tail -n 50 %s\n", shellWord(con.SerialLog))
	}
	if con.SerialSocket != "" {
		a.print("Its serial line, to type:  socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:%s   (Ctrl-] leaves)\n", shellWord(con.SerialSocket))
	}
}

func userName() string {
	if u := os.Getenv("USER"); u != "" {
		return u
	}
	return "root"
}
