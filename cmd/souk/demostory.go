package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"souk/node/core/consumer"
	"souk/node/core/operator"
)

// Who is in the story.
const (
	olga = "olga" // operator
	ada  = "ada"  // host
	ben  = "ben"  // host
	cleo = "cleo" // consumer
)

// demoDeposit is what cleo begins with.
const demoDeposit = "25"

// tell tells the story, chapter by chapter.
func (d *demo) tell(ctx context.Context) error {
	d.line("%s", d.look(lookTitle, "Souk: a market for GPU pods without a platform in the middle"))
	d.say("Four nodes of one market will run on this machine, each a process with a home of its own below %s: olga, an operator; ada and "+
		"ben, who have GPUs; and cleo, who needs some. The market is a testnet, so the GPUs may be simulated, and its billed minutes are %s "+
		"long, so that nobody has to wait. Pods are %s.", d.dir, d.slot, d.engine)
	for _, chapter := range []func(context.Context) error{
		d.found, d.letHostsIn, d.letConsumerIn, d.rentSpot, d.displace, d.runJob, d.goOn, d.settle, d.prove, d.addUp,
	} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// all runs commands on one machine, until one fails.
func (d *demo) all(ctx context.Context, who string, calls ...[]string) error {
	for _, args := range calls {
		if _, err := d.run(ctx, who, args...); err != nil {
			return err
		}
	}
	return nil
}

// private keeps the demo's nodes to themselves.
var private = []string{"--listen", "local"}

func (d *demo) found(ctx context.Context) error {
	d.title("Olga founds a market")
	d.say("A market begins with its charter, which its operator signs. The operator lets members in and keeps the accounts; she neither sees nor " +
		"touches what runs. (A key without a passphrase is for demos.)")
	return d.all(ctx, olga,
		append([]string{"init", "--role", "operator", "--market", "demo", "--testnet", "--slot", d.slot.String(), "--alias", olga, "--no-passphrase"}, private...),
		[]string{"up", "-d"})
}

func (d *demo) letHostsIn(ctx context.Context) error {
	d.title("Ada and Ben offer GPUs")
	d.say("Hosts come by invite. Joining proves the key, sends a list of the hardware with a self-test, and signs the host agreement. Then Olga looks at it " +
		"and decides. (Invite codes are long; the demo shows their ends.)")
	if err := d.join(ctx, ada, "host", "--simulated-gpus", "1xH100"); err != nil {
		return err
	}
	if err := d.join(ctx, ben, "host", "--simulated-gpus", "2xRTX_4090"); err != nil {
		return err
	}
	if _, err := d.run(ctx, olga, "operator", "queue"); err != nil {
		return err
	}
	for _, host := range []string{ada, ben} {
		addr, err := d.address(ctx, host)
		if err != nil {
			return err
		}
		if _, err := d.run(ctx, olga, "operator", "approve", addr, "--tier", "community"); err != nil {
			return err
		}
	}
	d.say("Each sets a price for on-demand pods, which nobody can displace, and the least bid for spot pods, which can be.")
	for host, prices := range map[string][2]string{ada: {"2.40", "0.90"}, ben: {"0.40", "0.15"}} {
		if _, err := d.ask(ctx, host, "status", "--wait", "approved"); err != nil {
			return err
		}
		if _, err := d.run(ctx, host, "host", "advertise", "--price", prices[0], "--min-bid", prices[1]); err != nil {
			return err
		}
	}
	return nil
}

// join takes a node into the market: an invite, the application, and the node's start.
func (d *demo) join(ctx context.Context, who, role string, more ...string) error {
	out, err := d.run(ctx, olga, "operator", "invite", "create", "--role", role)
	if err != nil {
		return err
	}
	args := append([]string{"join", codes.FindString(out), "-y", "--alias", who, "--no-passphrase"}, more...)
	if role == "host" {
		args = append(args, "--runtime", d.rt, "--allow-private-registries")
	}
	return d.all(ctx, who, append(args, private...), []string{"up", "-d"})
}

func (d *demo) address(ctx context.Context, who string) (string, error) {
	out, err := d.ask(ctx, who, "id", "show", "-q")
	return strings.TrimSpace(out), err
}

func (d *demo) letConsumerIn(ctx context.Context) error {
	d.title("Cleo comes in, with credit")
	d.say("Consumers come by invite too; nobody has to look at them. Cleo has paid Olga 25 dollars, and Olga enters them. The reference of the payment makes sure " +
		"that they are entered once.")
	if err := d.join(ctx, cleo, "consumer"); err != nil {
		return err
	}
	addr, err := d.address(ctx, cleo)
	if err != nil {
		return err
	}
	if _, err := d.run(ctx, olga, "operator", "deposit", addr, demoDeposit, "--ref", "bank-transfer-1"); err != nil {
		return err
	}
	if _, err := d.ask(ctx, cleo, "status", "--wait", "offers=2"); err != nil {
		return err
	}
	return d.all(ctx, cleo, []string{"balance"}, []string{"offers"})
}

func (d *demo) rentSpot(ctx context.Context) error {
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.title("Cleo rents a GPU at the spot price")
	d.say("A spot pod costs what it bids. The image stands in a registry of the demo's own; it holds a job that does a step a second and keeps its place on the " +
		"pod's volume. Host and consumer sign the terms, the bank sets money aside, the host pulls the image and starts it.")
	err := d.all(ctx, cleo,
		[]string{"run", "-d", "-y", "--type", "spot", "--max-price", "1.00", "-f", "gpu_name=H100_SXM", "--volume", "1GiB", "--name", "train", d.image},
		[]string{"wait", "train", "--for", "running"},
		[]string{"ps"})
	if err != nil {
		return err
	}
	d.say("Every minute the host signs a usage entry and Cleo's node, which has checked that the pod answered, signs what it owes so far. Nothing is paid ahead.")
	if err := d.until(ctx, "train", "two minutes are counted and paid", func(v consumer.View) bool { return v.Minutes >= 2 && v.Vouched == v.Owed }); err != nil {
		return err
	}
	return d.all(ctx, cleo, []string{"logs", "train", "--tail", "3"}, []string{"bill", "show", "train"})
}

// until waits for what a pod comes to.
func (d *demo) until(ctx context.Context, pod, what string, holds func(consumer.View) bool) error {
	d.line("  … until %s", what)
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	c, err := d.client(cleo)
	if err != nil {
		return err
	}
	defer c.Close()
	var last consumer.View
	for v, err := range c.Watch(ctx, pod) {
		if err != nil {
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
		if last = v; holds(v) {
			return nil
		}
	}
	return fmt.Errorf("it did not come to it that %s: %s is %s, %d minutes, owed %s", what, pod, last.State, last.Minutes, last.Owed.Text())
}

func (d *demo) displace(ctx context.Context) error {
	d.title("An on-demand pod displaces it")
	d.say("Ada's only H100 is taken, by a spot pod. On-demand goes first: the spot pod gets a signed notice, SIGTERM, and five seconds to leave. The minute of its " +
		"end is free, and its volume stays.")
	err := d.all(ctx, cleo, []string{"run", "-d", "-y", "--type", "on-demand", "--max-price", "2.40", "-f", "gpu_name=H100_SXM", "--name", "urgent", d.image},
		[]string{"wait", "urgent", "--for", "running"},
		[]string{"ps"},
		[]string{"logs", "train", "--tail", "3"})
	if err != nil {
		return err
	}
	return d.until(ctx, "urgent", "a minute of it is counted and paid", func(v consumer.View) bool { return v.Minutes >= 1 && v.Vouched == v.Owed })
}

func (d *demo) runJob(ctx context.Context) error {
	d.title("A job that ends by itself, with Ben")
	d.say("Without -d the command stays: it shows what the pod says and ends with its exit code. An end by itself ends the billing.")
	if _, err := d.ends(ctx, 3, cleo, "run", "-y", "--type", "on-demand", "--max-price", "0.40", "-f", "gpu_name=RTX_4090", "--name", "job",
		d.image, "--", "--steps", "3", "--code", "3"); err != nil {
		return err
	}
	return d.all(ctx, cleo, []string{"ps"})
}

func (d *demo) goOn(ctx context.Context) error {
	d.title("The spot pod goes on where it was")
	d.say("The on-demand pod is removed, and the GPU is free again. The spot pod's disk is lost at each stop; its volume, on which it noted its place, is not.")
	return d.all(ctx, cleo,
		[]string{"rm", "urgent"},
		[]string{"wait", "urgent", "--for", "ended"},
		[]string{"start", "train"},
		[]string{"wait", "train", "--for", "running"},
		[]string{"logs", "train"},
		[]string{"stop", "train"},
		[]string{"wait", "train", "--for", "stopped"},
		[]string{"logs", "train", "--tail", "2"})
}

func (d *demo) settle(ctx context.Context) error {
	d.title("Settlement")
	d.say("A lease ends with rm. Its host takes the last signature to the bank, which pays it out of what was set aside, and gives the rest back.")
	err := d.all(ctx, cleo,
		[]string{"rm", "train", "job"},
		[]string{"wait", "train", "--for", "settled"},
		[]string{"wait", "urgent", "--for", "settled"},
		[]string{"wait", "job", "--for", "settled"},
		[]string{"balance"})
	if err != nil {
		return err
	}
	for _, host := range []string{ada, ben} {
		if _, err := d.run(ctx, host, "host", "earnings"); err != nil {
			return err
		}
	}
	return nil
}

// demoPods are the pods of the story.
var demoPods = []string{"train", "urgent", "job"}

func (d *demo) prove(ctx context.Context) error {
	d.title("Proof")
	d.say("A bill is a file that anyone can verify, offline and without trusting anybody: it holds what both sides have signed.")
	for _, pod := range demoPods {
		if err := d.export(ctx, pod); err != nil {
			return err
		}
	}
	file := demoPods[0] + ".json"
	at, err := changeByte(filepath.Join(d.dir, file))
	if err != nil {
		return err
	}
	d.say("Now one byte of %s is changed, number %d of %d, in what Cleo signed: …%s… becomes …%s….", file, at.offset, at.size, at.before, at.after)
	_, err = d.ends(ctx, 9, cleo, "bill", "verify", file, "--offline")
	return err
}

// export writes a bill to a file and verifies it.
func (d *demo) export(ctx context.Context, pod string) error {
	file := pod + ".json"
	return d.all(ctx, cleo, []string{"bill", "export", pod, "--file", file}, []string{"bill", "verify", file, "--offline"})
}

// A change is one byte of a file.
type change struct {
	offset, size  int
	before, after string // the surroundings
}

// changeByte changes a hex digit of a bill's voucher.
func changeByte(file string) (change, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return change{}, err
	}
	for at := bytes.Index(b, []byte(`"voucher"`)) + 160; at < len(b)-12; at++ {
		if b[at] < '0' || b[at] > '8' {
			continue
		}
		c := change{offset: at, size: len(b), before: string(b[at-8 : at+8])}
		b[at]++
		c.after = string(b[at-8 : at+8])
		return c, os.WriteFile(file, b, 0o600)
	}
	return change{}, fmt.Errorf("%s has no voucher", file)
}

func (d *demo) addUp(ctx context.Context) error {
	d.title("Nothing is lost, nothing is made")
	d.say("All that is on the accounts, to the nano-credit, is what was deposited.")
	out, err := d.ask(ctx, olga, "operator", "accounts", "-o", "json")
	if err != nil {
		return err
	}
	var accounts []operator.AccountView
	if err := json.Unmarshal([]byte(out), &accounts); err != nil {
		return err
	}
	sum := sumOf(accounts)
	for _, a := range accounts {
		for _, part := range []struct {
			what   string
			amount fmt.Stringer
			zero   bool
		}{
			{"available", a.Available, a.Available == 0}, {"reserved", a.Reserved, a.Reserved == 0}, {"earned", a.Payable, a.Payable == 0},
			{"fees", a.Fees, a.Fees == 0},
		} {
			if !part.zero {
				d.line("  %-28s %16s", a.Alias+", "+part.what, part.amount)
			}
		}
	}
	d.line("  %-28s %16s", "", "────────────────")
	d.line("  %-28s %16s", "in all", sum.total())
	d.line("  %-28s %16s", "deposited", sum.deposited)
	if sum.total() != sum.deposited {
		return fmt.Errorf("the accounts do not add up: %s, deposited %s", sum.total(), sum.deposited)
	}
	return nil
}

// showKept says how to go on with a demo that was kept.
func (d *demo) showKept() {
	d.title("Your turn")
	d.say("The nodes go on. Talk to each by naming its home, for example:")
	for _, c := range [][2]string{
		{cleo, "offers"}, {cleo, "run --type spot --max-price 1.00 -f gpu_name=H100_SXM " + d.image}, {ada, "status"}, {olga, "operator accounts"},
	} {
		d.line("  SOUK_HOME=%s %s %s", d.home(c[0]), d.bin, c[1])
	}
	d.say("To end them and remove everything:")
	d.line("  %s demo --stop %s", d.bin, d.dir)
}
