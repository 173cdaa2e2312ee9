package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/qemu"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// bootFlags are the answers that `boot` takes.
type bootFlags struct {
	all     bool
	drive   string
	host    string
	network string
	maps    []string
	renames []string
	newMACs bool
	// besideOriginal allows a network that the original, which runs, may be on.
	besideOriginal bool
	disks          string
	forwards       []string
	checks         []string
	addresses      []string
	timeout        time.Duration
	settle         bool
	resume         string
	dryRun         bool
}

func (a *app) bootCommand() *cobra.Command {
	var f bootFlags
	c := &cobra.Command{
		Use: "boot POINT|MACHINE... | --all | --resume RUN", Short: "Start machines straight from a drive", GroupID: "back",
		Long: "Starts machines from their restore points, in the order given, without restoring anything:\n" +
			"their disks are read from the drive as they are needed, and what they write goes to this\n" +
			"computer's own disk. The drive is only ever read. The machines outlive this command.\n\n" +
			"By default they are on a private network of their own, with the addresses that they had, and\n" +
			"nothing leads in but --forward. --settle moves their disks here while they run.",
		Example:           "  lifeboat boot --all --drive /mnt/lifeboat\n  lifeboat boot db web --check db=tcp:5432 --check web=http:80/health --forward 8080:web:80",
		Annotations:       exits(exitPartial, exitNoDrive, exitStopped),
		ValidArgsFunction: a.completePoints,
		RunE: func(c *cobra.Command, args []string) error {
			if f.resume != "" {
				if f.all || len(args) > 0 {
					return usagef("--resume takes a run, and no machines beside it")
				}
				return a.bootResume(c.Context(), f)
			}
			if f.all == (len(args) > 0) {
				return usagef("say what to boot: machines or points, or --all")
			}
			return a.boot(c.Context(), f, args)
		},
	}
	flags := c.Flags()
	flags.BoolVar(&f.all, "all", false, "the newest point of every machine on the drive")
	flags.StringVar(&f.host, "host", localHost, "the host to boot on")
	flags.StringVar(&f.network, "network", "", "where network cards lead: segment (the default where the host has private networks), user (out through this computer: production can be reached), none, bridge:NAME or network:NAME (a network that the host knows by name)")
	flags.StringArrayVar(&f.maps, "map", nil, "where the cards of one of the source's networks lead instead: SOURCE=none, SOURCE=bridge:NAME, SOURCE=network:NAME and so on; may be given several times")
	flags.StringArrayVar(&f.renames, "rename", nil, "give a machine another name on this host: MACHINE=NAME; other flags then use that name")
	flags.BoolVar(&f.newMACs, "new-macs", false, "give network cards fresh addresses: for a copy beside a machine that runs on the same network")
	flags.StringVar(&f.disks, "disks", "", "put all disks on this kind of controller, for a system that does not find its disk: virtio, virtio-scsi, sata, ide, nvme, pvscsi, lsi-sas or lsi, as far as the host has it")
	flags.BoolVar(&f.besideOriginal, "beside-original", false, "plug a copy into a real network though its original runs: with the addresses that it had, unless the guest takes others")
	flags.StringArrayVar(&f.forwards, "forward", nil, "open a port of this computer's loopback into a machine: [HOSTPORT:]MACHINE:PORT")
	flags.StringArrayVar(&f.checks, "check", nil, "wait until this answers before the next machine: MACHINE=tcp:PORT or MACHINE=http:PORT/PATH")
	flags.StringArrayVar(&f.addresses, "address", nil, "the address of a machine that had no agent: MACHINE=ADDRESS/BITS")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long each check may take")
	flags.BoolVar(&f.settle, "settle", false, "move the machines' disks to this computer while they run; also with --resume")
	flags.StringVar(&f.resume, "resume", "", "start the machines of an earlier boot again, with what they wrote")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be booted, and how")
	a.driveFlag(c, &f.drive)
	c.RegisterFlagCompletionFunc("host", a.completeHosts)
	c.RegisterFlagCompletionFunc("disks", cobra.FixedCompletions([]cobra.Completion{"virtio", "virtio-scsi", "sata", "ide", "nvme", "pvscsi", "lsi-sas", "lsi"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) boot(ctx context.Context, f bootFlags, args []string) error {
	began := time.Now()
	host, hostFile, err := a.bootHost(f.host)
	if err != nil {
		return err
	}
	drive, err := a.openDrive(ctx, f.drive, imagestore.Read)
	if err != nil {
		return err
	}
	defer drive.Close()
	points, faults, err := drive.store.Points(ctx)
	if err != nil {
		return err
	}
	a.warnFaults(drive, faults)
	reader := a.newPointReader(drive)
	defer reader.Close()
	picked, err := reader.pick(ctx, points, args, f.all)
	if err != nil {
		return err
	}
	runID := newID()
	plan, err := a.planBoot(ctx, host, runID, f, pointsOf(picked))
	if err == nil {
		err = a.besideOriginals(ctx, f, plan)
	}
	if err != nil {
		return err
	}
	if f.dryRun {
		a.showBootPlan(drive, plan)
		return nil
	}
	a.promisedRun = runID
	r, err := a.beginRun("boot", os.Args[1:])
	if err != nil {
		return err
	}
	booted, err := a.recordBoot(r, drive, hostFile, plan, picked, !host.Abilities().BootNBD)
	if err != nil {
		return err
	}
	b := &booter{a: a, host: host, picked: picked, run: r, booted: booted, plan: plan, began: began, timeout: f.timeout, settle: f.settle, newMACs: f.newMACs}
	var results []bootResult
	if booted.served() {
		err = a.startServing(ctx, r.dir, drive.keys)
	}
	if err == nil {
		results, err = b.all(ctx)
		b.prove(ctx, results)
	}
	running := b.running(context.WithoutCancel(ctx))
	if err != nil {
		err = errors.Join(err, a.endIdleRuns(context.WithoutCancel(ctx), r.ID))
	}
	a.showBoot(b, results, err)
	r.end(fmt.Sprintf("%d of %d machines run from drive %s", len(running), len(plan.Machines), drive.found.Drive.Label), err)
	return err
}

// needQEMU says, where QEMU is missing, which one command installs it here.
func needQEMU() error {
	tool := "qemu-system-x86_64"
	_, err := qemu.Program()
	if err == nil {
		tool = "qemu-img"
		_, err = exec.LookPath(tool)
	}
	if err == nil {
		return nil
	}
	release, _ := os.ReadFile("/etc/os-release")
	next := "install QEMU with this system's package manager, and run the command again"
	if command, known := rotation.InstallQEMU(string(release)); known {
		next = "as root, run: " + command
	}
	return &lifeboat.Problem{
		What: "this computer has no " + tool + ", which machines run on",
		Safe: "nothing was started; the drive is unchanged",
		Next: next,
		Err:  err,
	}
}

// bootHost opens the host that machines are booted on.
func (a *app) bootHost(name string) (hypervisor.Host, hostFile, error) {
	s, err := a.siteOrNone()
	if err != nil {
		return nil, hostFile{}, err
	}
	file, err := findHost(a.hostFiles(s), name)
	if err != nil {
		return nil, hostFile{}, err
	}
	if file.Kind == kindQEMU {
		if err := needQEMU(); err != nil {
			return nil, hostFile{}, err
		}
	}
	h, err := a.openHost(file)
	return h, file, err
}

func (a *app) planBoot(ctx context.Context, host hypervisor.Host, run string, f bootFlags, points []lifeboat.RestorePoint) (*bootPlan, error) {
	listed, err := host.List(ctx)
	switch {
	case err != nil && listed == nil:
		return nil, fmt.Errorf("host %s does not say which machines it has, so nothing was started: %w", host.Name(), err)
	case err != nil:
		// The names that can be read are enough: one that is there already is refused
		// when the machine is defined, and one broken machine must not keep all
		// others from being recovered.
		a.warn("%v", err)
	}
	names := map[string]bool{}
	for _, l := range listed {
		names[l.Machine.Name] = true
	}
	pl := planner{run: run, network: f.network, maps: f.maps, renames: f.renames, forwards: f.forwards, checks: f.checks, addresses: f.addresses,
		taken: func(name string) bool { return names[name] }, freePort: freePort}
	if pl.network == "" {
		pl.network = string(hypervisor.NetworkSegment)
	}
	pl.segments = host.Abilities().Segments
	alone := !pl.segments && f.network == ""
	if alone {
		pl.network = string(hypervisor.NetworkNone)
	}
	plan, err := pl.plan(points)
	if err == nil && f.disks != "" {
		err = plan.withDisks(f.disks, host.Abilities())
	}
	if err == nil && alone && plan.unplugged() {
		a.note("host %s has no private networks: network cards stay unplugged unless --network or --map says where they lead", host.Name())
	}
	return plan, err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// recordBoot writes down what is about to be served and to whom, before anything
// is. Machines whose disks are copied to their host are served nothing.
func (a *app) recordBoot(r *run, drive *openedDrive, host hostFile, plan *bootPlan, picked []pickedPoint, copied bool) (*bootedRun, error) {
	sockets, err := socketFolder(r.ID)
	if err != nil {
		return nil, err
	}
	b := &bootedRun{Run: r.ID, Began: a.now().UTC(), Drive: drive.store.Drive(), DrivePath: drive.found.Path,
		Host: host, Socket: filepath.Join(sockets, "disks")}
	for i, m := range plan.Machines {
		bm := bootedMachine{Name: m.Name, Machine: m.Point.Machine.ID, Point: m.Point.ID, TakenAt: m.Point.TakenAt,
			Forwards: m.Forwards, Settled: copied, Exports: map[string]string{}, SizeBytes: map[string]int64{}}
		bm.Parts = b.partsBeside(drive, picked[i])
		for _, d := range m.Point.Machine.Disks {
			if d.Excluded == "" {
				bm.Exports[d.Key] = "m" + strconv.Itoa(i) + "-" + d.Key
				bm.SizeBytes[d.Key] = d.SizeBytes
			}
			if d.Bus == lifeboat.BusNVMe {
				bm.Waiting = append(bm.Waiting, d.Key)
			}
		}
		b.Machines = append(b.Machines, bm)
	}
	b.Segment = plan.segment()
	return b, b.save(r.dir)
}

// partsBeside are the disks of a point that are on other drives than the first,
// which become drives of the run.
func (b *bootedRun) partsBeside(first *openedDrive, p pickedPoint) map[string]bootedPart {
	parts := map[string]bootedPart{}
	for key, source := range p.sources {
		if source.drive == first && source.point == p.ID {
			continue
		}
		drive := source.drive.store.Drive()
		parts[key] = bootedPart{drive.ID, source.point}
		if !b.reads(drive.ID) {
			b.Beside = append(b.Beside, bootedDrive{drive, source.drive.found.Path})
		}
	}
	return parts
}

func (a *app) showBootPlan(drive *openedDrive, plan *bootPlan) {
	if a.json {
		a.printJSON(plan)
		return
	}
	var rows [][]string
	for _, m := range plan.Machines {
		rows = append(rows, []string{m.Name, short(m.Point.ID), stamp(m.Point.TakenAt), string(m.Point.Consistency),
			humanBytes(m.Point.Machine.MemoryBytes), cableWords(m.Networks), forwardWords(m.Forwards)})
	}
	a.print("from %s, in this order:\n%s", drive.name(),
		table([]string{"MACHINE", "POINT", "TAKEN", "CONSISTENT", "MEMORY", "CARDS ON", "FORWARDS"}, rows))
	for _, m := range plan.Machines {
		if m.Form != "" {
			a.note("%s: %s", m.Name, m.Form)
		}
	}
}

func (a *app) showBoot(b *booter, results []bootResult, err error) {
	serving, _ := readServing(b.run.dir)
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Run: b.run.ID, Result: struct {
			Drive     lifeboat.Drive `json:"drive"`
			Machines  []bootResult   `json:"machines"`
			ReadBytes int64          `json:"readBytes"`
			Damage    []string       `json:"damage,omitempty"`
			Exit      int            `json:"exit"`
		}{b.booted.Drive, results, b.readBytes(), serving.Damage, exitCode(err)}})
		return
	}
	var rows [][]string
	for _, r := range results {
		answer := "not checked"
		if r.AnswerSeconds > 0 {
			answer = humanSeconds(r.AnswerSeconds)
		}
		switch {
		case r.Skipped != "":
			answer = r.Skipped
		case r.err != nil:
			answer = "failed"
		}
		rows = append(rows, []string{r.Machine, short(r.Point), humanSeconds(r.AgeSeconds), answer, humanBytes(r.ReadBytes), forwardWords(r.Forwards)})
	}
	a.print("%s", table([]string{"MACHINE", "POINT", "AGE OF DATA", "ANSWERS AFTER", "READ", "FORWARDS"}, rows))
	for _, d := range serving.Damage {
		a.warn("%s", d)
	}
	if err == nil {
		a.note("read from drive %s so far: %s; what runs: lifeboat ps", b.booted.Drive.Label, humanBytes(b.readBytes()))
	}
}

// bootResume starts the server of the disks and the machines of an earlier boot
// again: after a power cut of this host, or after `stop`. With --settle it also
// moves what runs to local disk.
func (a *app) bootResume(ctx context.Context, f bootFlags) error {
	found, err := a.findRun(f.resume)
	if err != nil {
		return err
	}
	dir := filepath.Join(a.runsDir(), found.ID)
	booted, err := readBooted(dir)
	if err != nil {
		return usagef("run %s booted nothing", short(found.ID))
	}
	host, err := a.openRunHost(booted)
	if err != nil {
		return err
	}
	if err := a.serveAgain(ctx, booted, dir); err != nil {
		return err
	}
	b := &booter{a: a, host: host, run: a.openRunLog(dir), booted: booted}
	if err := b.powerOnAgain(ctx); err != nil {
		return err
	}
	if f.settle {
		return b.settleAll(ctx)
	}
	return nil
}

// serveAgain starts the server of a run's disks unless it runs. Machines that
// were all moved to local disk need no drive, only their ways in.
func (a *app) serveAgain(ctx context.Context, b *bootedRun, dir string) error {
	if s, err := readServing(dir); !b.served() || err == nil && s.Process.alive() {
		return nil
	}
	var keys secretKeys
	if !b.settled() {
		drive, err := a.openDriveByID(ctx, b.Drive, b.DrivePath)
		if err != nil {
			return err
		}
		keys, b.DrivePath = drive.keys, drive.found.Path
		drive.Close()
		for i := range b.Beside {
			beside := &b.Beside[i]
			drive, err := a.openDriveByID(ctx, beside.Drive, beside.Path)
			if err != nil {
				return err
			}
			beside.Path = drive.found.Path
			drive.Close()
		}
	}
	b.Ended = false
	if err := b.save(dir); err != nil {
		return err
	}
	return a.startServing(ctx, dir, keys)
}

// powerOnAgain starts the machines that are still there; those that were removed
// are gone on purpose.
func (b *booter) powerOnAgain(ctx context.Context) error {
	there, err := b.a.machinesOf(ctx, b.booted)
	if err != nil {
		b.a.warn("%v", err)
	}
	if len(there) == 0 {
		return usagef("no machine of run %s is left on this host", short(b.booted.Run))
	}
	for _, m := range b.booted.Machines {
		if _, ok := there[m.Name]; !ok {
			continue
		}
		if err := b.host.PowerOn(ctx, m.Name); err != nil {
			return fmt.Errorf("%s: start it again: %w", m.Name, err)
		}
		b.tell(m.Name, "runs")
	}
	return nil
}
