"""What the pages of images share: the program's documents, kept from session to session, and runs that go on where they were killed."""
import contextlib
import json
import os
import subprocess
import threading


class Runs:
    def __init__(self, program, folder, at_once=None):
        """at_once: so many programs may run side by side, of one thread each, whoever asks for them; else each has the machine's threads."""
        self.program, self.folder = program, folder
        self.turn = threading.Semaphore(at_once) if at_once else contextlib.nullcontext()
        self.options = ["--threads", "1"] if at_once else []
        self.failed = False

    def document(self, *arguments):
        """The program's JSON document."""
        with self.turn:
            if self.failed:  # or interrupted: whoever waited for a turn begins nothing more
                raise SystemExit(1)
            command = [self.program, *arguments, *self.options, "--json"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            self.failed = self.failed or done.returncode != 0
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: status {done.returncode}")
        return json.loads(done.stdout)

    def kept(self, name, make):
        """What make() returned, now or in an earlier session."""
        path = f"{self.folder}/{name}.json"
        if not os.path.exists(path):
            found = make()
            with open(path + ".part", "w") as file:
                json.dump(found, file)
            os.rename(path + ".part", path)
        with open(path) as file:
            return json.load(file)

    def train(self, name, recipe, settings):
        """Trains or goes on training; the run's folder."""
        folder = f"{self.folder}/{name}"
        if os.path.exists(folder + "/supernet.h5"):
            self.document("train", "--resume", folder)
            return folder
        subprocess.run(["rm", "-rf", folder], check=True)  # killed before its first checkpoint
        self.document("train", recipe, "--run", folder, *settings)
        return folder

    def plan(self, recipe, settings):
        return self.document("train", recipe, "--dry-run", *settings)

    def measure(self, folder, subnet):
        return self.document("evaluate", folder, "--subnet", subnet, "--split", "report")
