# docker build -t seesr .                                                        for the CPU
# docker build -t seesr --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 --build-arg TORCH_INDEX= .
# docker run --gpus all --ipc=host -v "$PWD":/work seesr seesr-train experiment=seesr
ARG BASE=ubuntu:24.04
FROM ${BASE}

# Empty for PyPI's build of torch, which is that for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=photos

RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv git && rm -rf /var/lib/apt/lists/*
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
RUN python3 -m venv /opt/venv

WORKDIR /opt/seesr_pl
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

# Runs, weights and shards are those of the folder that is mounted here.
WORKDIR /work
CMD ["seesr", "--help"]
