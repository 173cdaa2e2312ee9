package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// process names a process so that it is still the same one after its pid was
// given to another: by when it started, and in which boot of the machine.
type process struct {
	PID    int    `json:"pid"`
	Start  string `json:"start"`
	BootID string `json:"bootId"`
}

func thisProcess() (process, error) { return processOf(os.Getpid()) }

func processOf(pid int) (process, error) {
	start, err := startTime(pid)
	if err != nil {
		return process{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}, fmt.Errorf("read the boot id: %w", err)
	}
	return process{PID: pid, Start: start, BootID: strings.TrimSpace(string(boot))}, nil
}

// startTime is field 22 of /proc/PID/stat.
func startTime(pid int) (string, error) {
	fields, err := statFields(pid)
	if err != nil {
		return "", err
	}
	if fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}

// statFields are the fields of /proc/PID/stat from the third on, the process's
// state. They are counted after the command's name, which may itself hold spaces
// and brackets.
func statFields(pid int) ([]string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("process %d: its stat file makes no sense", pid)
	}
	return fields, nil
}

// alive says whether this very process still runs.
func (p process) alive() bool {
	if p.PID == 0 {
		return false
	}
	now, err := processOf(p.PID)
	return err == nil && now == p
}

// signal sends a signal to this very process, and to no other of its number.
func (p process) signal(s syscall.Signal) error {
	if !p.alive() {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.PID, s)
}

// detached makes a command outlive this process and its terminal: a session of
// its own, no controlling terminal, the root folder as its working folder.
func detached(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
}
