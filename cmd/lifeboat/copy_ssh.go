package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

// sshTarget is a folder on another host: ssh://[USER@]HOST[:PORT]/FOLDER.
type sshTarget struct {
	host, port, folder string
}

const sshScheme = "ssh://"

// parseSSH reads such an address.
func parseSSH(text string) (sshTarget, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || len(u.Path) < 2 || u.RawQuery != "" || u.Fragment != "" || strings.HasPrefix(u.Hostname(), "-") {
		return sshTarget{}, usagef("--to takes ssh://[USER@]HOST[:PORT]/FOLDER, not %q", text)
	}
	if _, has := u.User.Password(); has {
		return sshTarget{}, usagef("--to takes no password: ssh asks for it, or uses a key")
	}
	t := sshTarget{host: u.Hostname(), port: u.Port(), folder: filepath.Clean(u.Path)}
	if name := u.User.Username(); name != "" {
		t.host = name + "@" + t.host
	}
	return t, nil
}

// command runs a line of shell on the host.
func (t sshTarget) command(ctx context.Context, line string) *exec.Cmd {
	args := []string{"-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8"}
	if t.port != "" {
		args = append(args, "-p", t.port)
	}
	cmd := exec.CommandContext(ctx, "ssh", append(args, "--", t.host, line)...)
	cmd.Stderr = os.Stderr // what ssh asks and says
	return cmd
}

// program is where this program is put on the host: in a folder beside the other.
func (t sshTarget) program() string { return t.folder + ".program/lifeboat" }

// copySSH copies points to a folder on another host, where this program receives
// them. Nothing has to be installed there.
func (a *app) copySSH(ctx context.Context, from *openedDrive, to string, ids []string) error {
	t, err := parseSSH(to)
	if err != nil {
		return err
	}
	if from.keys.Passphrase == "" {
		_, err := a.openSecond(ctx, from, t.folder)
		return err
	}
	if err := a.sendProgram(ctx, t, from); err != nil {
		return t.problem(err)
	}
	r, err := a.beginRun("copy", os.Args[1:])
	if err != nil {
		return err
	}
	result, err := a.sendPoints(ctx, t, r, from, ids)
	summary := fmt.Sprintf("from %s to %s on %s: %s copied, %d there already; stored %s", from.name(), t.folder, t.host, count(result.Copied, "point"), result.Present, humanBytes(result.WrittenBytes))
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Run: r.ID, Result: result})
	} else if err == nil {
		a.print("%s\n", summary)
		a.note("there: %s recover --drive %s", t.program(), shellWord(t.folder))
	}
	r.end(summary, err)
	return err
}

func (t sshTarget) problem(err error) error {
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s cannot be reached, or cannot take the points: %v", t.host, err),
		Safe: "the drive was only read; what arrived is kept, and is not sent again",
		Next: fmt.Sprintf("try the line: ssh %s true; then run the command again", shellWord(t.host)),
		Err:  err,
	}
}

// sendProgram puts this program onto the host, unless it is there.
func (a *app) sendProgram(ctx context.Context, t sshTarget, from *openedDrive) error {
	machine, err := t.command(ctx, "uname -m").Output()
	if err != nil {
		return err
	}
	path, err := programFor(strings.TrimSpace(string(machine)), from.found.Path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	program := shellWord(t.program())
	has, err := t.command(ctx, fmt.Sprintf("umask 077; mkdir -p %s && { sha256sum < %s; } 2>/dev/null || true", shellWord(filepath.Dir(t.program())), program)).Output()
	if err != nil {
		return err
	}
	if strings.HasPrefix(string(has), hex.EncodeToString(sum[:])) {
		return nil
	}
	a.note("%s gets this program: %s", t.host, humanBytes(int64(len(data))))
	send := t.command(ctx, fmt.Sprintf("umask 077; cat > %[1]s.new && chmod 700 %[1]s.new && mv %[1]s.new %[1]s", program))
	send.Stdin = bytes.NewReader(data)
	return send.Run()
}

// programFor is the program for a kind of processor: this one, or one of those that
// the drive carries.
func programFor(machine, drive string) (string, error) {
	arch := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[machine]
	if arch == runtime.GOARCH {
		return "/proc/self/exe", nil
	}
	path := filepath.Join(drive, rotation.BinFolder, "lifeboat-linux-"+arch)
	if _, err := os.Stat(path); arch == "" || err != nil {
		return "", fmt.Errorf("there is no program for its processor (%s)", oneLine(plainText(machine)))
	}
	return path, nil
}

// sendPoints starts the receiver and answers what it asks for.
func (a *app) sendPoints(ctx context.Context, t sshTarget, r *run, from *openedDrive, ids []string) (CopyResult, error) {
	p := a.newProgress(r, "copy")
	defer p.end()
	result := CopyResult{Problem: "the line was cut", Exit: exitFailed}
	s := &pipeServer{dir: from.dir, progress: p.show, result: func(r CopyResult) { result = r },
		order: CopyOrder{Keys: from.keys, Points: ids, Now: a.now()}}
	cmd := t.command(ctx, shellWord(t.program())+" copy-receiver "+shellWord(t.folder))
	in, err := cmd.StdinPipe()
	if err != nil {
		return result, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return result, err
	}
	if err := cmd.Start(); err != nil {
		return result, t.problem(err)
	}
	server := rpc.NewServer()
	if err := server.RegisterName("Drive", s); err != nil {
		return result, err
	}
	server.ServeConn(pipe{out, in})
	err = cmd.Wait()
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	if result.Exit == exitDone {
		return result, nil
	}
	if result.Next == "" {
		return result, t.problem(errors.Join(errors.New(result.Problem), err))
	}
	return result, &lifeboat.Problem{What: t.host + ": " + oneLine(plainText(result.Problem)), Safe: oneLine(plainText(result.Safe)), Next: oneLine(plainText(result.Next)), Err: errors.Join(receiverErrors[result.Exit], err)}
}

// receiverErrors are what the exit codes of a receiver mean here.
var receiverErrors = map[int]error{exitDamage: lifeboat.ErrDamaged, exitHeld: lifeboat.ErrDriveHeld, exitNoDrive: lifeboat.ErrWrongDrive}

// pipe is both directions of a line.
type pipe struct {
	io.Reader
	io.WriteCloser
}

// receiverCommand receives points: it is started by the other end.
func (a *app) receiverCommand() *cobra.Command {
	return &cobra.Command{
		Use: "copy-receiver FOLDER", Hidden: true, Args: exactArgs("a folder"),
		RunE: func(c *cobra.Command, args []string) error {
			client := rpc.NewClient(pipe{a.stdin, nopCloser{a.stdout}})
			defer client.Close()
			var order CopyOrder
			if err := client.Call("Drive.Order", struct{}{}, &order); err != nil {
				return fmt.Errorf("nobody sends anything: %w", err)
			}
			a.quiet = true // the line is the terminal of nobody
			report, err := a.receive(c.Context(), client, order, args[0])
			r := CopyResult{Exit: exitCode(err), Copied: len(report.Copied), Present: len(report.Present), WrittenBytes: report.WrittenBytes}
			if err != nil {
				p := problemOf(err)
				r.Problem, r.Safe, r.Next = p.What, p.Safe, p.Next
			}
			return client.Call("Drive.Result", r, &struct{}{})
		},
	}
}

// nopCloser keeps standard output open.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// receive opens the drive at the other end and the one in the folder, and copies.
func (a *app) receive(ctx context.Context, client *rpc.Client, order CopyOrder, folder string) (report imagestore.CopyReport, err error) {
	a.ahead = order.Now.Sub(a.now())
	secrets, err := order.Keys.secrets()
	if err != nil {
		return report, err
	}
	var dir durable.Dir = pipedDir{client: client}
	store, err := imagestore.Open(ctx, dir, secrets, imagestore.OpenOptions{Mode: imagestore.Read, Now: a.now})
	if err != nil {
		return report, err
	}
	from := &openedDrive{found: rotation.Found{Drive: store.Drive()}, store: store, dir: dir, keys: order.Keys, now: a.now}
	defer from.Close()
	to, err := a.openSecond(ctx, from, folder)
	if err != nil {
		return report, err
	}
	defer to.Close()
	return to.store.Copy(ctx, store, order.Points, imagestore.CopyOptions{Progress: func(p imagestore.Progress) {
		client.Call("Drive.Progress", [2]int64{p.DoneBytes, p.TotalBytes}, &struct{}{}) // a line that is cut is met by the next read
	}})
}
