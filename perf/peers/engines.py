"""Everybody who is compared, each behind the same few calls. Imported by worker.py, one engine a
process, by whatever Python its package is for (3.10 and up).

What favours whom. Queries are handed over in one batch and answered on one thread by the library's
own loop, so that no call from Python is counted against anybody. faiss's lists see the whole batch
and may share work between its queries, which single queries could not. Vectors for exact re-ranking
lie in memory for all who use them. Memory comes on huge pages for everybody (worker.py).
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Found = NDArray[Any]  # queries x k, of any integer type
Setting = dict[str, float]

EFS = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 130, 170, 220, 300, 400, 600, 900, 1300)
GAMMAS = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08)
GAMMAS_WIDE = (0.09, 0.1, 0.11, 0.12, 0.14, 0.16, 0.18, 0.2, 0.23)


class Engine(Protocol):
    """Made with the options of its entry."""

    def build(self, base: Floats, angular: bool) -> None: ...
    # Families of rising effort.
    def settings(self) -> list[list[Setting]]: ...
    def search(self, queries: Floats, k: int, setting: Setting) -> Found: ...
    def save(self, path: Path) -> bool: ...  # False: cannot be saved
    def load(self, path: Path, base: Floats, angular: bool) -> None: ...
    def facts(self) -> dict[str, float]: ...


class Saved:
    """What most have in common."""

    def facts(self) -> dict[str, float]:
        return {}

    def settings(self) -> list[list[Setting]]:
        return [[{"ef": ef} for ef in EFS]]


# ---- ours ----


class Options(ctypes.Structure):
    """struct pdb_index_options"""

    _fields_ = (
        ("metric", ctypes.c_int),
        ("dimension", ctypes.c_uint32),
        ("type", ctypes.c_int),
        ("quantization", ctypes.c_int),
        ("quantization_bits", ctypes.c_uint32),
        ("hnsw_m", ctypes.c_uint32),
        ("ef_construction", ctypes.c_uint32),
        ("ivf_lists", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("threads", ctypes.c_uint32),
        ("vectors", ctypes.c_int),
        ("progress", ctypes.c_void_p),
        ("arg", ctypes.c_void_p),
    )


class Query(ctypes.Structure):
    """struct pdb_index_query"""

    _fields_ = (
        ("vector", ctypes.c_void_p),
        ("k", ctypes.c_uint32),
        ("target_recall", ctypes.c_float),
        ("gamma", ctypes.c_float),
        ("ef", ctypes.c_uint32),
        ("nprobe", ctypes.c_uint32),
        ("rerank", ctypes.c_uint32),
        ("exact", ctypes.c_bool),
        ("allowed", ctypes.c_void_p),
        ("accepts", ctypes.c_void_p),
        ("arg", ctypes.c_void_p),
    )


class Stats(ctypes.Structure):
    """struct pdb_index_stats"""

    _fields_ = (
        ("metric", ctypes.c_int),
        ("dimension", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
        ("type", ctypes.c_int),
        ("quantization", ctypes.c_int),
        ("index_bytes", ctypes.c_uint64),
        ("vector_bytes", ctypes.c_uint64),
        ("mapped_bytes", ctypes.c_uint64),
        ("has_recall", ctypes.c_bool),
        ("recall_estimate", ctypes.c_float),
    )


HIT = np.dtype([("row", np.uint32), ("score", np.float32)])
RESULT = np.dtype(
    [("count", np.uint32), ("distances", np.uint64), ("flags", np.uint8, (3,))], align=True
)
COSINE, EUCLIDEAN = 1, 3
TYPES = {"flat": 1, "hnsw": 2, "ivf": 3}
QUANTIZATIONS = {"none": 1, "sq8": 2, "sq4": 3, "pq": 4, "binary": 5}
ERROR_BYTES = 1024  # more than a struct pdb_error


class ProximaDB(Saved):
    def __init__(
        self,
        type: str = "hnsw",
        quantization: str = "sq8",
        m: int = 16,
        ef_construction: int = 100,
        bits: int = 0,
        rerank: tuple[int, ...] = (12,),
        ef_cap: int = 4000,
        threads: int = 1,
    ) -> None:
        self.library = ctypes.CDLL(os.environ["PROXIMADB_LIBRARY"])
        self.type, self.rerank, self.ef_cap = type, rerank, ef_cap
        self.options = Options(
            type=TYPES[type],
            quantization=QUANTIZATIONS[quantization],
            quantization_bits=bits,
            hnsw_m=m if type == "hnsw" else 0,
            ef_construction=ef_construction if type == "hnsw" else 0,
            seed=1,
            threads=threads,
        )
        self.index = ctypes.c_void_p()
        self.searcher = ctypes.c_void_p()

    def checked(self, function: str, *arguments: object) -> None:
        error = ctypes.create_string_buffer(ERROR_BYTES)
        code = getattr(self.library, function)(*arguments, error)
        if code < 0:
            text = error.raw[9:].split(b"\0")[0].decode(errors="replace")
            raise RuntimeError(f"{function}: {code}: {text}")

    def build(self, base: Floats, angular: bool) -> None:
        self.options.metric = COSINE if angular else EUCLIDEAN
        self.options.dimension = base.shape[1]
        self.checked(
            "pdb_index_build",
            ctypes.byref(self.options),
            base.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(base)),
            ctypes.byref(self.index),
        )
        self.checked("pdb_index_searcher_open", self.index, ctypes.byref(self.searcher))

    def settings(self) -> list[list[Setting]]:
        efforts: list[Setting]
        if self.type == "ivf":
            efforts = [{"nprobe": n} for n in (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)]
        else:
            efforts = [{"gamma": gamma} for gamma in GAMMAS + GAMMAS_WIDE]
        return [[effort | {"rerank": rerank} for effort in efforts] for rerank in self.rerank]

    def search(self, queries: Floats, k: int, setting: Setting) -> Found:
        query = Query(
            k=k,
            gamma=setting.get("gamma", 0),
            ef=self.ef_cap if "gamma" in setting else 0,
            nprobe=int(setting.get("nprobe", 0)),
            rerank=int(setting["rerank"]),
        )
        hits = np.zeros((len(queries), k), HIT)
        results = np.zeros(len(queries), RESULT)
        self.checked(
            "pdb_index_search_batch",
            self.searcher,
            ctypes.byref(query),
            queries.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(queries)),
            hits.ctypes.data_as(ctypes.c_void_p),
            results.ctypes.data_as(ctypes.c_void_p),
        )
        self.distances = float(results["distances"].mean())
        return hits["row"]

    def save(self, path: Path) -> bool:
        self.checked("pdb_index_save", self.index, str(path).encode())
        return True

    def load(self, path: Path, base: Floats, angular: bool) -> None:
        name, read_all = str(path).encode(), 0
        self.checked("pdb_index_load", name, read_all, ctypes.byref(self.index))
        self.checked("pdb_index_searcher_open", self.index, ctypes.byref(self.searcher))

    def facts(self) -> dict[str, float]:
        stats = Stats()
        self.library.pdb_index_stats(self.index, ctypes.byref(stats))
        return {"index_bytes": float(stats.index_bytes)}


# ---- peers ----


class Hnswlib(Saved):
    def __init__(self, m: int = 16, ef_construction: int = 200) -> None:
        self.m, self.ef_construction = m, ef_construction

    def empty(self, base: Floats) -> Any:  # noqa: ANN401
        import hnswlib

        return hnswlib.Index(space="l2", dim=base.shape[1])

    def build(self, base: Floats, angular: bool) -> None:
        self.index = self.empty(base)
        self.index.init_index(len(base), M=self.m, ef_construction=self.ef_construction)
        self.index.add_items(base, num_threads=1)

    def search(self, queries: Floats, k: int, setting: Setting) -> Found:
        self.index.set_ef(int(setting["ef"]))
        found: Found = self.index.knn_query(queries, k, num_threads=1)[0]
        return found

    def save(self, path: Path) -> bool:
        self.index.save_index(str(path))
        return True

    def load(self, path: Path, base: Floats, angular: bool) -> None:
        self.index = self.empty(base)
        self.index.load_index(str(path))


class Faiss(Saved):
    """factory: a text for index_factory; {half}: half the dimension, {lists}: 4 sqrt(rows)."""

    def __init__(
        self, factory: str, ef_construction: int = 200, k_factors: tuple[int, ...] = ()
    ) -> None:
        self.factory, self.ef_construction, self.k_factors = factory, ef_construction, k_factors

    def build(self, base: Floats, angular: bool) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        lists = int(4 * len(base) ** 0.5)
        text = self.factory.format(half=base.shape[1] // 2, lists=lists)
        self.index = faiss.index_factory(base.shape[1], text, faiss.METRIC_L2)
        if not self.k_factors:
            self.index.hnsw.efConstruction = self.ef_construction
        self.index.train(base)
        self.index.add(base)

    def settings(self) -> list[list[Setting]]:
        if not self.k_factors:
            return super().settings()
        probes = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
        return [[{"nprobe": n, "k_factor": f} for n in probes] for f in self.k_factors]

    def search(self, queries: Floats, k: int, setting: Setting) -> Found:
        import faiss

        faiss.omp_set_num_threads(1)
        if self.k_factors:
            self.index.k_factor = setting["k_factor"]
            faiss.extract_index_ivf(self.index).nprobe = int(setting["nprobe"])
        else:
            self.index.hnsw.efSearch = int(setting["ef"])
        found: Found = self.index.search(queries, k)[1]
        return found

    def save(self, path: Path) -> bool:
        import faiss

        faiss.write_index(self.index, str(path))
        return True

    def load(self, path: Path, base: Floats, angular: bool) -> None:
        import faiss

        self.owner = faiss.read_index(str(path))  # frees what both stand for when it goes
        self.index = faiss.downcast_index(self.owner) if self.k_factors else self.owner


class Usearch(Saved):
    def __init__(self, dtype: str = "f32", m: int = 16, ef_construction: int = 200) -> None:
        self.dtype, self.m, self.ef_construction = dtype, m, ef_construction

    def empty(self, base: Floats, angular: bool) -> Any:  # noqa: ANN401
        from usearch.index import Index

        return Index(
            ndim=base.shape[1],
            metric="cos" if angular else "l2sq",
            dtype=self.dtype,
            connectivity=self.m,
            expansion_add=self.ef_construction,
        )

    def build(self, base: Floats, angular: bool) -> None:
        self.index = self.empty(base, angular)
        self.index.add(np.arange(len(base), dtype=np.uint64), base, threads=1)

    def search(self, queries: Floats, k: int, setting: Setting) -> Found:
        self.index.expansion_search = int(setting["ef"])
        found: Found = self.index.search(queries, k, threads=1).keys
        return found

    def save(self, path: Path) -> bool:
        self.index.save(str(path))
        return True

    def load(self, path: Path, base: Floats, angular: bool) -> None:
        self.index = self.empty(base, angular)
        self.index.load(str(path))


class Svs(Saved):
    """Vamana over LVQ codes ("4x8": 4 bits to walk by, 8 more to re-rank), or LeanVec, which walks
    by a projection on a share of the dimensions."""

    def __init__(
        self, codes: str = "4x8", degree: int = 32, window: int = 200, lean: float = 0.0
    ) -> None:
        self.codes, self.degree, self.window, self.lean = codes, degree, window, lean

    def loader(self, base: Floats) -> Any:  # noqa: ANN401
        import svs

        path = str(Path(os.environ["PEERS_SCRATCH"]) / f"svs-{os.getpid()}.fvecs")
        svs.write_vecs(np.asarray(base), path)
        plain = svs.VectorDataLoader(path, svs.DataType.float32, dims=base.shape[1])
        if self.codes == "f32":
            return plain
        if self.lean > 0:
            return svs.LeanVecLoader(plain, int(base.shape[1] * self.lean))
        primary, residual = (int(part) for part in self.codes.split("x"))
        return svs.LVQLoader(plain, primary=primary, residual=residual, padding=32)

    def build(self, base: Floats, angular: bool) -> None:
        import svs

        parameters = svs.VamanaBuildParameters(
            graph_max_degree=self.degree, window_size=self.window
        )
        self.index = svs.Vamana.build(
            parameters, self.loader(base), svs.DistanceType.L2, num_threads=1
        )
        os.unlink(Path(os.environ["PEERS_SCRATCH"]) / f"svs-{os.getpid()}.fvecs")

    def settings(self) -> list[list[Setting]]:
        wide = (1.0, 1.5) if "x" in self.codes and not self.codes.endswith("x0") else (1.0,)
        return [
            [{"window": ef, "capacity": int(ef * w), "ahead": ahead} for ef in EFS]
            for ahead in (0, 8)
            for w in wide
        ]

    def search(self, queries: Floats, k: int, setting: Setting) -> Found:
        import svs

        parameters = self.index.search_parameters
        parameters.buffer_config = svs.SearchBufferConfig(
            int(setting["window"]), int(setting["capacity"])
        )
        if setting["ahead"] > 0:
            parameters.prefetch_lookahead = int(setting["ahead"])
            parameters.prefetch_step = int(setting["ahead"])
        else:
            plain = type(parameters)()
            parameters.prefetch_lookahead = plain.prefetch_lookahead
            parameters.prefetch_step = plain.prefetch_step
        self.index.search_parameters = parameters
        found: Found = self.index.search(queries, k)[0]
        return found

    def save(self, path: Path) -> bool:
        path.mkdir(parents=True, exist_ok=True)
        self.index.save(*(str(path / part) for part in ("config", "graph", "data")))
        return True

    def load(self, path: Path, base: Floats, angular: bool) -> None:
        import svs

        saved = str(path / "data")
        data = svs.LeanVecLoader(saved) if self.lean > 0 else svs.LVQLoader(saved, padding=32)
        graph = svs.GraphLoader(str(path / "graph"))
        config = str(path / "config")
        self.index = svs.Vamana(config, graph, data, svs.DistanceType.L2, num_threads=1)


class Glass(Saved):
    """level: 0 float32, 1 bytes, 2 half bytes, both re-ranked by float32."""

    def __init__(self, level: int = 1, degree: int = 32, ef_construction: int = 200) -> None:
        self.level, self.degree, self.ef_construction = level, degree, ef_construction

    def serve(self, graph: Any, base: Floats) -> None:  # noqa: ANN401
        import glassppy

        self.graph = graph
        self.searcher = glassppy.Searcher(graph, base, "L2", self.level)
        self.searcher.optimize(1)

    def build(self, base: Floats, angular: bool) -> None:
        import glassppy

        glassppy.set_num_threads(1)
        index = glassppy.Index(
            "HNSW", dim=base.shape[1], metric="L2", R=self.degree, L=self.ef_construction
        )
        self.serve(index.build(base), base)

    def search(self, queries: Floats, k: int, setting: Setting) -> Found:
        self.searcher.set_ef(int(setting["ef"]))
        found = np.asarray(self.searcher.batch_search(queries, k, 1))
        return found.reshape(len(queries), k)

    def save(self, path: Path) -> bool:
        self.graph.save(str(path))
        return True

    def load(self, path: Path, base: Floats, angular: bool) -> None:
        import glassppy

        glassppy.set_num_threads(1)
        self.serve(glassppy.Graph(str(path)), base)


MAKERS: dict[str, Callable[..., Engine]] = {
    "proximadb": ProximaDB,
    "hnswlib": Hnswlib,
    "faiss": Faiss,
    "usearch": Usearch,
    "svs": Svs,
    "glass": Glass,
}
