package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
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
	all, unreachable := a.machines(ctx, s)
	found, err := findMachines(all, []string{name})
	if err != nil {
		return errors.Join(err, unreachable)
	}
	m := found[0]
	if shot != "" {
		png, err := m.host.Screenshot(ctx, m.HostID)
		if err != nil {
			return fmt.Errorf("%s: take a picture of its screen: %w", name, err)
		}
		return writeFile(shot, png, 0o644)
	}
	con, err := m.host.Console(ctx, m.HostID)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if a.json {
		a.printJSON(con)
		return nil
	}
	hostname, _ := os.Hostname()
	a.print("%s has its screen on a Unix socket of this computer. From where you sit:\n\n", name)
	a.print("  ssh -N -L 5901:%s %s@%s\n  then point a VNC viewer at localhost:5901\n", con.VNCSocket, userName(), hostname)
	if con.SerialLog != "" {
		a.print("\nIts serial line, so far:  tail -n 50 %s\n", shellWord(con.SerialLog))
	}
	if con.SerialSocket != "" {
		a.print("Its serial line, to type:  socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:%s   (Ctrl-] leaves)\n", shellWord(con.SerialSocket))
	}
	return nil
}

func userName() string {
	if u := os.Getenv("USER"); u != "" {
		return u
	}
	return "root"
}
